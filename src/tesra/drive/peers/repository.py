"""Storage peers and who holds what; used by the peer service alone."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Row,
    Table,
    Text,
    any_,
    bindparam,
    delete,
    func,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from tesra.db.engine import Tx, metadata
from tesra.drive.peers.placement import Peer
from tesra.kit.errors import Forbidden
from tesra.kit.ids import PeerId
from tesra.storage.merkle import PackTree

_TIME = DateTime(timezone=True)
LATER = "later"  # the reason of a wanted copy that no put waits for
REACHABLE_S = 40.0  # a peer polls every 15 s at least

storage_peers = Table(
    "storage_peers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("machine", Text, nullable=False),
    Column("site", Text, nullable=False, server_default=text("''")),
    Column("authority", Text, nullable=False, server_default=text("''")),  # its certificate's
    Column("revoked_at", _TIME),
    Column("host", Text, nullable=False),
    Column("port", Integer, nullable=False),
    Column("capacity_bytes", BigInteger, nullable=False),
    Column("gateway", Boolean, nullable=False),
    Column("draining", Boolean, nullable=False, server_default=text("false")),
    Column("standing", Text, nullable=False, server_default=text("'good'")),
    Column("proofs", Integer, nullable=False, server_default=text("0")),  # since it stands so
    Column("enrolled_at", _TIME, nullable=False, server_default=func.now()),
    Column("last_seen", _TIME, nullable=False, server_default=func.now()),
)

pack_trees = Table(
    "pack_trees",
    metadata,
    Column("pack_id", LargeBinary, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("layer", LargeBinary, nullable=False),
    Column("made_at", _TIME, nullable=False, server_default=func.now()),
)

# wanted -> held; held -> lost | bad (the peer has lost or spoilt it); any -> dropping -> gone
pack_copies = Table(
    "pack_copies",
    metadata,
    Column("pack_id", LargeBinary, ForeignKey("pack_trees.pack_id"), primary_key=True),
    Column("peer_id", Text, ForeignKey("storage_peers.id"), primary_key=True),
    Column("state", Text, nullable=False),
    Column("sources", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("ready", Boolean, nullable=False, server_default=text("false")),  # a source serves it
    Column("since", _TIME, nullable=False, server_default=func.now()),
    Column("proven_at", _TIME),
    Column("reason", Text),
    Column("tries", Integer, nullable=False, server_default=text("0")),  # failed ones in a row
    Index("ix_pack_copies_peer", "peer_id", "state"),
    Index("ix_pack_copies_wanted", "pack_id", postgresql_where=text("state = 'wanted'")),
)

# what a holder has been asked to show (``prove``: these blocks), or to look through (``scrub``)
pack_audits = Table(
    "pack_audits",
    metadata,
    Column("pack_id", LargeBinary, ForeignKey("pack_trees.pack_id"), primary_key=True),
    Column("peer_id", Text, ForeignKey("storage_peers.id"), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("blocks", ARRAY(Integer), nullable=False),
    Column("asked_at", _TIME, nullable=False, server_default=func.now()),
    Column("stalled", Boolean, nullable=False, server_default=text("false")),
    Index("ix_pack_audits_peer", "peer_id"),
)

CopyRow = Row[Any]


class PeerRevoked(Forbidden):
    """This storage peer has been shut out of the network."""


@dataclass(frozen=True, slots=True)
class Served:
    """A pack that others want from a peer; ``waiting``: so many wait to be let at it; ``later``: no
    put waits for it."""

    pack_id: str
    waiting: int
    later: bool


class PeerRepository:
    """Every statement about peers and copies."""

    async def upsert_peer(self, tx: Tx, values: dict[str, Any]) -> None:
        statement = upsert(storage_peers).values(**values)
        changes: dict[str, Any] = {key: statement.excluded[key] for key in values if key != "id"}
        changes["last_seen"] = func.clock_timestamp()
        await tx.execute(statement.on_conflict_do_update(index_elements=["id"], set_=changes))

    async def touch(self, tx: Tx, peer: PeerId) -> str | None:
        """The peer has just spoken: the authority of its certificate; None for one that never
        enrolled. Raises ``PeerRevoked``."""
        statement = (
            update(storage_peers)
            .where(storage_peers.c.id == peer, storage_peers.c.revoked_at.is_(None))
            .values(last_seen=func.clock_timestamp())
            .returning(storage_peers.c.authority)
        )
        row = (await tx.execute(statement)).one_or_none()
        if row is None:
            await self.require_welcome(tx, peer)
            return None
        return str(row.authority)

    async def require_welcome(self, tx: Tx, peer: PeerId) -> None:
        """Raises ``PeerRevoked`` for one that is shut out."""
        statement = select(storage_peers.c.revoked_at).where(storage_peers.c.id == peer)
        if await tx.scalar(statement) is not None:
            raise PeerRevoked

    async def peers(self, tx: Tx) -> list[Peer]:
        """All that ever enrolled and are not shut out, with what they hold or are getting."""
        used = (
            select(pack_copies.c.peer_id, func.sum(pack_trees.c.size_bytes).label("used_bytes"))
            .join(pack_trees, pack_trees.c.pack_id == pack_copies.c.pack_id)
            .where(pack_copies.c.state.in_(("wanted", "held", "dropping")))
            .group_by(pack_copies.c.peer_id)
            .subquery()
        )
        away = func.extract("epoch", func.clock_timestamp() - storage_peers.c.last_seen)
        statement = select(
            storage_peers, away.label("away_s"), func.coalesce(used.c.used_bytes, 0)
        ).outerjoin(used, used.c.peer_id == storage_peers.c.id)
        statement = statement.where(storage_peers.c.revoked_at.is_(None))
        return [
            Peer(
                id=PeerId(row.id),
                owner=row.owner,
                machine=row.machine,
                host=row.host,
                port=row.port,
                capacity_bytes=row.capacity_bytes,
                used_bytes=int(row[-1]),
                gateway=row.gateway,
                reachable=row.away_s < REACHABLE_S,
                draining=row.draining,
                name=row.name,
                away_s=float(row.away_s),
                standing=row.standing,
                site=row.site,
            )
            for row in await tx.execute(statement.order_by(storage_peers.c.id))
        ]

    async def add_tree(self, tx: Tx, tree: PackTree) -> None:
        """A pack's truth; the same again changes nothing."""
        values = {
            "pack_id": bytes.fromhex(tree.pack_id),
            "size_bytes": tree.size_bytes,
            "root": tree.root,
            "layer": tree.layer,
        }
        await tx.execute(upsert(pack_trees).values(values).on_conflict_do_nothing())

    async def trees(self, tx: Tx, pack_ids: Collection[str]) -> dict[str, PackTree]:
        if not pack_ids:
            return {}
        ids = [bytes.fromhex(pack_id) for pack_id in pack_ids]
        statement = select(pack_trees).where(pack_trees.c.pack_id == any_(_ids(ids)))
        return {
            bytes(row.pack_id).hex(): PackTree(
                bytes(row.pack_id).hex(), row.size_bytes, bytes(row.root), bytes(row.layer)
            )
            for row in await tx.execute(statement)
        }

    async def copies(self, tx: Tx, pack_id: str) -> list[CopyRow]:
        statement = select(pack_copies).where(pack_copies.c.pack_id == bytes.fromhex(pack_id))
        return list(await tx.execute(statement))

    async def copy(self, tx: Tx, pack_id: str, peer: PeerId) -> CopyRow | None:
        """One peer's copy; the row is locked."""
        statement = select(pack_copies).where(
            pack_copies.c.pack_id == bytes.fromhex(pack_id), pack_copies.c.peer_id == peer
        )
        return (await tx.execute(statement.with_for_update())).one_or_none()

    async def set_copy(self, tx: Tx, pack_id: str, peer: PeerId, state: str, **values: Any) -> None:
        """The copy's state from now on, whatever it was."""
        row = {
            "pack_id": bytes.fromhex(pack_id),
            "peer_id": peer,
            "state": state,
            "sources": [],
            "ready": False,
            "reason": None,
            "tries": 0,
            "proven_at": None,
            **values,
        }
        statement = upsert(pack_copies).values(**row)
        changes: dict[str, Any] = {
            key: statement.excluded[key] for key in row if key not in {"pack_id", "peer_id"}
        }
        changes["since"] = func.clock_timestamp()
        await tx.execute(
            statement.on_conflict_do_update(index_elements=["pack_id", "peer_id"], set_=changes)
        )

    async def order_at_once(self, tx: Tx, pack_id: str, peer: PeerId) -> None:
        """The peer shall bring the pack from the server itself, which names no source."""
        await self.set_copy(tx, pack_id, peer, "wanted", ready=True)

    async def ordered_at_once(self, tx: Tx, pack_id: str, peer: PeerId) -> int | None:
        """The pack's size (bytes) when the peer still shall; else None."""
        mine = bytes.fromhex(pack_id)
        found: int | None = await tx.scalar(_AT_ONCE, {"pack_id": mine, "peer": peer})
        return found

    async def copy_states(self, tx: Tx, peer: PeerId, *, states: Sequence[str]) -> dict[str, str]:
        """Pack → state of the peer's copies in these states."""
        statement = select(pack_copies.c.pack_id, pack_copies.c.state).where(
            pack_copies.c.peer_id == peer, pack_copies.c.state.in_(states)
        )
        return {bytes(row.pack_id).hex(): row.state for row in await tx.execute(statement)}

    async def to_do(self, tx: Tx, peer: PeerId) -> list[CopyRow]:
        """The peer's copies that it has to do something about: wanted ones that a source serves by
        now, bad ones, and those to drop."""
        return list(await tx.execute(_TO_DO, {"peer": peer}))

    async def served(self, tx: Tx, peer: PeerId, *, later_after_s: float = 0.0) -> list[Served]:
        """Packs that others want from this peer, which has them; those that a put waits for first,
        then by age. A copy that is wanted ``later`` counts when it has waited for so long."""
        found = await tx.execute(_SERVED, {"peer": peer, "later_after_s": later_after_s})
        return [Served(bytes(row.pack_id).hex(), row.waiting, later=row.later) for row in found]

    async def make_ready(
        self, tx: Tx, pack_id: str, source: PeerId, *, later_after_s: float = 0.0
    ) -> list[PeerId]:
        """``source`` serves the pack: those who wait for it, and are due."""
        statement = (
            update(pack_copies)
            .where(
                pack_copies.c.pack_id == bytes.fromhex(pack_id),
                text("state = 'wanted'"),
                literal(source) == any_(pack_copies.c.sources),
                ~pack_copies.c.ready,
                _due(later_after_s),
            )
            .values(ready=True)
            .returning(pack_copies.c.peer_id)
        )
        return [PeerId(row.peer_id) for row in await tx.execute(statement)]

    async def hurry(self, tx: Tx, pack_id: str) -> set[str]:
        """Copies of the pack that nobody waited for are waited for now; their sources."""
        statement = (
            update(pack_copies)
            .where(
                pack_copies.c.pack_id == bytes.fromhex(pack_id),
                text("state = 'wanted'"),
                pack_copies.c.reason == LATER,
            )
            .values(reason=None)
            .returning(pack_copies.c.sources)
        )
        return {source for row in await tx.execute(statement) for source in row.sources}

    async def note_proven(self, tx: Tx, pack_id: str, peer: PeerId) -> None:
        await tx.execute(
            update(pack_copies)
            .where(pack_copies.c.pack_id == bytes.fromhex(pack_id), pack_copies.c.peer_id == peer)
            .values(proven_at=func.clock_timestamp())
        )

    async def lock_pack(self, tx: Tx, pack_id: str) -> None:
        """The lock of who indexes or sweeps the pack."""
        await tx.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(pack_id, 4))))

    async def forget_tree(self, tx: Tx, pack_id: str) -> None:
        """Nobody holds the pack, and nothing refers to it."""
        mine = bytes.fromhex(pack_id)
        await tx.execute(delete(pack_audits).where(pack_audits.c.pack_id == mine))
        await tx.execute(delete(pack_trees).where(pack_trees.c.pack_id == mine))

    async def forget_copy(self, tx: Tx, pack_id: str, peer: PeerId) -> None:
        await tx.execute(
            delete(pack_copies).where(
                pack_copies.c.pack_id == bytes.fromhex(pack_id), pack_copies.c.peer_id == peer
            )
        )


def _due(later_after_s: float | ColumnElement[float]) -> ColumnElement[bool]:
    """Whether a wanted copy is to be made now: at once, or after a while when nobody waits for it."""
    age = func.extract("epoch", func.clock_timestamp() - pack_copies.c.since)
    return pack_copies.c.reason.is_distinct_from(LATER) | (age >= later_after_s)


# Asked at every turn of a put: made once.
_TO_DO = select(pack_copies.c.pack_id, pack_copies.c.state, pack_copies.c.sources).where(
    pack_copies.c.peer_id == bindparam("peer"),
    pack_copies.c.state.in_(("dropping", "bad"))
    | (text("pack_copies.state = 'wanted'") & pack_copies.c.ready),
)
_AT_ONCE = (
    select(pack_trees.c.size_bytes)
    .join(pack_copies, pack_copies.c.pack_id == pack_trees.c.pack_id)
    .where(
        pack_copies.c.pack_id == bindparam("pack_id"),
        pack_copies.c.peer_id == bindparam("peer"),
        text("state = 'wanted'"),
        func.cardinality(pack_copies.c.sources) == 0,
    )
)
_mine = pack_copies.alias("mine")
_LATER = func.bool_and(pack_copies.c.reason.is_not_distinct_from(LATER))
_SERVED = (
    select(
        pack_copies.c.pack_id,
        func.count().filter(~pack_copies.c.ready).label("waiting"),
        _LATER.label("later"),
    )
    .join(
        _mine,
        (_mine.c.pack_id == pack_copies.c.pack_id) & (_mine.c.peer_id == bindparam("peer")),
    )
    .where(
        text("pack_copies.state = 'wanted'"),
        bindparam("peer", type_=Text) == any_(pack_copies.c.sources),
        _mine.c.state == "held",
        _due(bindparam("later_after_s", type_=Float)),
    )
    .group_by(pack_copies.c.pack_id)
    .order_by(_LATER, func.min(pack_copies.c.since), pack_copies.c.pack_id)
)


def _ids(ids: Sequence[bytes]) -> Any:
    return bindparam("pack_ids", list(ids), ARRAY(LargeBinary))
