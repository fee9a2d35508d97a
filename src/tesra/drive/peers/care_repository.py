"""Statements about many packs at once, and about audits; used by the care of packs alone."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    LargeBinary,
    Row,
    Select,
    and_,
    any_,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from tesra.db.engine import Tx
from tesra.drive.peers.placement import COPIES
from tesra.drive.peers.repairing import Copy, PackCopies
from tesra.drive.peers.repository import REACHABLE_S, pack_audits, pack_copies, pack_trees
from tesra.drive.peers.repository import storage_peers as known_peers
from tesra.drive.repository import drives, epochs, packs
from tesra.kit.ids import PeerId, UserId, new_id

PROVE = "prove"
SCRUB = "scrub"
_HELD = text("pack_copies.state = 'held'")
# how many copies of a pack its drive's owner wants; one that no index names yet: the usual number
_GOAL = func.coalesce(
    select(func.max(drives.c.copies))
    .join(epochs, epochs.c.drive_id == drives.c.id)
    .join(packs, packs.c.epoch_id == epochs.c.id)
    .where(packs.c.id == pack_trees.c.pack_id)
    .correlate(pack_trees)
    .scalar_subquery(),
    COPIES,
)


@dataclass(frozen=True, slots=True)
class HeldCopy:
    """A copy that can be asked for."""

    pack_id: str
    peer: PeerId


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a peer has been asked about one copy."""

    id: str
    kind: str
    pack_id: str
    peer: PeerId
    blocks: tuple[int, ...]
    size_bytes: int
    asked_ago_s: float
    stalled: bool


class CareRepository:
    """Every statement of the care of packs beside those of orders."""

    # -- peers ------------------------------------------------------------------------------

    async def peer_rows(self, tx: Tx) -> list[Row[Any]]:
        """All peers, with ``copies``, ``used_bytes`` and whether they are ``reachable``."""
        held = (
            select(
                pack_copies.c.peer_id,
                func.count().label("copies"),
                func.sum(pack_trees.c.size_bytes).label("used_bytes"),
            )
            .join(pack_trees, pack_trees.c.pack_id == pack_copies.c.pack_id)
            .where(_HELD)
            .group_by(pack_copies.c.peer_id)
            .subquery()
        )
        silent = func.clock_timestamp() - known_peers.c.last_seen
        statement = (
            select(
                known_peers,
                (silent < timedelta(seconds=REACHABLE_S)).label("reachable"),
                func.coalesce(held.c.copies, 0).label("copies"),
                func.coalesce(held.c.used_bytes, 0).label("used_bytes"),
            )
            .outerjoin(held, held.c.peer_id == known_peers.c.id)
            .order_by(known_peers.c.name, known_peers.c.id)
        )
        return list(await tx.execute(statement))

    async def standing(self, tx: Tx, peer: PeerId) -> tuple[str, int, str]:
        """How the peer stands, its good proofs since then, and its name; the row is locked."""
        statement = select(known_peers).where(known_peers.c.id == peer).with_for_update()
        row = (await tx.execute(statement)).one()
        return row.standing, row.proofs, row.name

    async def set_standing(self, tx: Tx, peer: PeerId, standing: str, proofs: int) -> None:
        await tx.execute(
            update(known_peers)
            .where(known_peers.c.id == peer)
            .values(standing=standing, proofs=proofs)
        )

    async def set_draining(self, tx: Tx, peer: PeerId, *, draining: bool) -> None:
        await tx.execute(
            update(known_peers).where(known_peers.c.id == peer).values(draining=draining)
        )

    async def revoke(self, tx: Tx, peer: PeerId, *, revoked: bool) -> None:
        """Shut it out, what it was asked for and what it holds forgotten; or let it in again."""
        if revoked:
            await tx.execute(delete(pack_audits).where(pack_audits.c.peer_id == peer))
            await tx.execute(delete(pack_copies).where(pack_copies.c.peer_id == peer))
        at = func.clock_timestamp() if revoked else None
        await tx.execute(update(known_peers).where(known_peers.c.id == peer).values(revoked_at=at))

    async def only_here(self, tx: Tx, peer: PeerId) -> int:
        """Of how many stored packs this peer has the only good copy."""
        other = pack_copies.alias("other")
        elsewhere = exists().where(
            other.c.pack_id == pack_copies.c.pack_id,
            other.c.peer_id != peer,
            other.c.state == "held",
        )
        stored = exists().where(packs.c.id == pack_copies.c.pack_id)
        statement = select(func.count()).where(
            pack_copies.c.peer_id == peer, _HELD, stored, ~elsewhere
        )
        return int(await tx.scalar(statement) or 0)

    async def alone(self, tx: Tx, lock: int) -> bool:
        """Whether nobody else plans now; until the transaction ends nobody else will."""
        return bool(await tx.scalar(select(func.pg_try_advisory_xact_lock(lock))))

    # -- copies -----------------------------------------------------------------------------

    async def copies_of(self, tx: Tx, pack_ids: Collection[bytes]) -> list[PackCopies]:
        """These packs with all their copies."""
        age = func.extract("epoch", func.clock_timestamp() - pack_copies.c.since)
        statement = (
            select(
                pack_trees.c.pack_id,
                pack_trees.c.size_bytes,
                pack_copies,
                age.label("age_s"),
                _GOAL.label("goal"),
            )
            .outerjoin(pack_copies, pack_copies.c.pack_id == pack_trees.c.pack_id)
            .where(pack_trees.c.pack_id == any_(_ids(pack_ids)))
            .order_by(pack_trees.c.pack_id)
        )
        found: dict[bytes, tuple[int, int, list[Copy]]] = {}
        for row in await tx.execute(statement):
            *_, copies = found.setdefault(bytes(row[0]), (row.size_bytes, row.goal, []))
            if row.peer_id is not None:
                sources = tuple(PeerId(source) for source in row.sources)
                copies.append(
                    Copy(
                        PeerId(row.peer_id),
                        row.state,
                        float(row.age_s),
                        row.tries,
                        row.ready,
                        sources,
                    )
                )
        return [
            PackCopies(pack.hex(), size, tuple(all_), goal)
            for pack, (size, goal, all_) in found.items()
        ]

    async def unwell(self, tx: Tx, *, limit: int, gone_s: float) -> list[bytes]:
        """Packs whose copies that count are not as many as wanted, or that have others besides."""
        counts = and_(
            _HELD,
            ~known_peers.c.draining,
            known_peers.c.last_seen > func.clock_timestamp() - timedelta(seconds=gone_s),
        )
        well = func.count().filter(counts)
        rest = func.count().filter(pack_copies.c.peer_id.is_not(None)) - well
        gateways = func.count().filter(and_(counts, known_peers.c.gateway))
        statement = (
            select(pack_trees.c.pack_id)
            .outerjoin(pack_copies, pack_copies.c.pack_id == pack_trees.c.pack_id)
            .outerjoin(known_peers, known_peers.c.id == pack_copies.c.peer_id)
            .group_by(pack_trees.c.pack_id)
            .having(or_(well != _GOAL, rest > 0, gateways == 0))
            .order_by(func.random())
            .limit(limit)
        )
        return [bytes(row.pack_id) for row in await tx.execute(statement)]

    async def locked(self, tx: Tx, pack_ids: Collection[bytes] | None = None) -> set[str]:
        """Packs without any good copy; all, or those of ``pack_ids``."""
        held = exists().where(pack_copies.c.pack_id == pack_trees.c.pack_id, _HELD)
        stored = exists().where(packs.c.id == pack_trees.c.pack_id)
        statement = select(pack_trees.c.pack_id).where(~held, stored)
        if pack_ids is not None:
            statement = statement.where(pack_trees.c.pack_id == any_(_ids(pack_ids)))
        return {bytes(row.pack_id).hex() for row in await tx.execute(statement)}

    async def some_packs(self, tx: Tx, *, limit: int) -> list[bytes]:
        """Packs by chance, to see whether they could lie better."""
        statement = select(pack_trees.c.pack_id).order_by(func.random()).limit(limit)
        return [bytes(row.pack_id) for row in await tx.execute(statement)]

    async def proofs(self, tx: Tx, pack_ids: Collection[bytes]) -> list[Row[Any]]:
        """``pack_id``, ``machine``, ``reachable``, ``proven_at`` of every good copy of these."""
        silent = func.clock_timestamp() - known_peers.c.last_seen
        statement = (
            select(
                pack_copies.c.pack_id,
                pack_copies.c.proven_at,
                known_peers.c.machine,
                (silent < timedelta(seconds=REACHABLE_S)).label("reachable"),
            )
            .join(known_peers, known_peers.c.id == pack_copies.c.peer_id)
            .where(pack_copies.c.pack_id == any_(_ids(pack_ids)), _HELD)
        )
        return list(await tx.execute(statement))

    async def unreferenced(self, tx: Tx, *, age_s: float) -> set[str]:
        """Packs with a tree, and in no index, for so long."""
        border = func.clock_timestamp() - timedelta(seconds=age_s)
        statement = select(pack_trees.c.pack_id).where(
            ~exists().where(packs.c.id == pack_trees.c.pack_id), pack_trees.c.made_at < border
        )
        return {bytes(one).hex() for one in (await tx.execute(statement)).scalars()}

    async def tracked(self, tx: Tx, pack_ids: Collection[bytes]) -> set[str]:
        """Those of the packs that peers keep, or should."""
        statement = select(pack_trees.c.pack_id).where(pack_trees.c.pack_id == any_(_ids(pack_ids)))
        return {bytes(row.pack_id).hex() for row in await tx.execute(statement)}

    async def untracked(self, tx: Tx, *, limit: int) -> list[str]:
        """Indexed packs that no tree is known of: put before there were peers."""
        statement = (
            select(packs.c.id)
            .where(~exists().where(pack_trees.c.pack_id == packs.c.id))
            .distinct()
            .limit(limit)
        )
        return [bytes(row.id).hex() for row in await tx.execute(statement)]

    # -- audits -----------------------------------------------------------------------------

    async def due(
        self, tx: Tx, *, every_s: float, owner: UserId | None, limit: int
    ) -> list[HeldCopy]:
        """Good copies at peers that speak, proven longest ago first, not asked for now."""
        asked = exists().where(
            pack_audits.c.pack_id == pack_copies.c.pack_id,
            pack_audits.c.peer_id == pack_copies.c.peer_id,
            pack_audits.c.kind == PROVE,
        )
        border = func.clock_timestamp() - timedelta(seconds=every_s)
        statement = (
            select(pack_copies.c.pack_id, pack_copies.c.peer_id)
            .join(known_peers, known_peers.c.id == pack_copies.c.peer_id)
            .where(
                _HELD,
                known_peers.c.last_seen > func.clock_timestamp() - timedelta(seconds=REACHABLE_S),
                or_(pack_copies.c.proven_at.is_(None), pack_copies.c.proven_at < border),
            )
            .order_by(pack_copies.c.proven_at.asc().nulls_first())
            .limit(limit)
        )
        if owner is None:
            statement = statement.where(~asked)
        else:
            statement = statement.where(pack_copies.c.pack_id.in_(packs_of(owner)))
        return [
            HeldCopy(bytes(row.pack_id).hex(), PeerId(row.peer_id))
            for row in await tx.execute(statement)
        ]

    async def challenge(self, tx: Tx, copy: HeldCopy, kind: str, blocks: Sequence[int]) -> None:
        """Ask, instead of what was asked before of the same kind."""
        statement = upsert(pack_audits).values(
            pack_id=bytes.fromhex(copy.pack_id),
            peer_id=copy.peer,
            kind=kind,
            id=new_id("aud"),
            blocks=list(blocks),
        )
        taken = statement.excluded
        changes: dict[str, Any] = {"id": taken.id, "blocks": taken.blocks, "stalled": False}
        changes["asked_at"] = func.clock_timestamp()
        await tx.execute(
            statement.on_conflict_do_update(
                index_elements=["pack_id", "peer_id", "kind"], set_=changes
            )
        )

    async def challenges(
        self,
        tx: Tx,
        *,
        peer: PeerId | None = None,
        audit: str | None = None,
        owner: UserId | None = None,
    ) -> list[Challenge]:
        """What has been asked and not been answered."""
        if peer is not None and audit is None and owner is None:
            return [_challenge(row) for row in await tx.execute(_ASKED_OF, {"peer": peer})]
        statement = _ASKED
        if peer is not None:
            statement = statement.where(pack_audits.c.peer_id == peer)
        if audit is not None:
            statement = statement.where(pack_audits.c.id == audit)
        if owner is not None:
            statement = statement.where(pack_audits.c.pack_id.in_(packs_of(owner)))
        return [_challenge(row) for row in await tx.execute(statement)]

    async def close(self, tx: Tx, pack_id: str, peer: PeerId, *kinds: str) -> None:
        """Answered, or not asked for any more; without kinds all about the copy."""
        statement = delete(pack_audits).where(
            pack_audits.c.pack_id == bytes.fromhex(pack_id), pack_audits.c.peer_id == peer
        )
        if kinds:
            statement = statement.where(pack_audits.c.kind.in_(kinds))
        await tx.execute(statement)

    async def note_stalled(self, tx: Tx, audit: str) -> None:
        await tx.execute(update(pack_audits).where(pack_audits.c.id == audit).values(stalled=True))


def packs_of(owner: UserId) -> Select[Any]:
    """The ids of the packs of a user's drive."""
    return (
        select(packs.c.id)
        .join(epochs, epochs.c.id == packs.c.epoch_id)
        .join(drives, drives.c.id == epochs.c.drive_id)
        .where(drives.c.owner == owner)
    )


_ASKED = (
    select(
        pack_audits,
        pack_trees.c.size_bytes,
        func.extract("epoch", func.clock_timestamp() - pack_audits.c.asked_at).label("ago_s"),
    )
    .join(pack_trees, pack_trees.c.pack_id == pack_audits.c.pack_id)
    .order_by(pack_audits.c.id)
)
_ASKED_OF = _ASKED.where(pack_audits.c.peer_id == bindparam("peer"))


def _challenge(row: Row[Any]) -> Challenge:
    return Challenge(
        id=row.id,
        kind=row.kind,
        pack_id=bytes(row.pack_id).hex(),
        peer=PeerId(row.peer_id),
        blocks=tuple(row.blocks),
        size_bytes=row.size_bytes,
        asked_ago_s=float(row.ago_s),
        stalled=row.stalled,
    )


def _ids(ids: Collection[bytes]) -> Any:
    return bindparam("pack_ids", list(ids), ARRAY(LargeBinary))
