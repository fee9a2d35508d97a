"""The care of packs: who holds them, how well, and what has to be done about it.

Each pass looks at the rows and orders what is missing; it may be cut off anywhere and done again,
by any server, at any time.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Row

from tesra.db.engine import Database, Tx
from tesra.db.notify import notify_all
from tesra.drive.peers.auditing import EVERY_S, choose_blocks, is_overdue
from tesra.drive.peers.care_repository import PROVE, SCRUB, CareRepository, HeldCopy, packs_of
from tesra.drive.peers.errors import GatewayStays, OnlyCopies, StoragePeerUnknown
from tesra.drive.peers.evidence import Evidence
from tesra.drive.peers.placement import GOOD, Peer
from tesra.drive.peers.repairing import GONE_S, Drop, Forget, Step, Want, plan_repair
from tesra.drive.peers.repository import LATER, PeerRepository
from tesra.kit.ids import PeerId, UserId
from tesra.kit.saying import said
from tesra.security.alarms import Alarm, AlarmService, Kind
from tesra.storage.merkle import PackTree
from tesra.wire.storage import AuditStand, StoragePeer

PACKS_A_PASS = 500
REBALANCED_A_PASS = 100
AUDITS_A_PASS = 200
MOST_AT_ONCE = 20_000
_LOCK = 0x7E52A  # of the advisory lock of planning: one planner at a time

log = logging.getLogger(__name__)

ReadTree = Callable[[str], Awaitable[PackTree | None]]  # of a pack in the gateway's own folder


class CareService:
    """One for a server process; ``read_tree`` looks at a pack of the gateway's."""

    def __init__(
        self,
        database: Database,
        alarms: AlarmService,
        evidence: Evidence,
        *,
        gateway: PeerId | None,
        read_tree: ReadTree,
    ) -> None:
        self._database = database
        self._alarms = alarms
        self._evidence = evidence
        self._gateway = gateway
        self._read_tree = read_tree
        self._copies = PeerRepository()
        self._repository = CareRepository()

    async def peers(self, tx: Tx) -> list[StoragePeer]:
        """All that ever joined, by name."""
        return [_shown(row) for row in await self._repository.peer_rows(tx)]

    async def drain(self, tx: Tx, name_or_id: str, *, draining: bool = True) -> StoragePeer:
        """From now on the peer is emptied, or not any more; raises ``StoragePeerUnknown``."""
        found = await self._named(tx, name_or_id)
        if found.gateway and draining:
            raise GatewayStays
        await self._repository.set_draining(tx, PeerId(found.id), draining=draining)
        return found.model_copy(update={"draining": draining})

    async def revoke(
        self, tx: Tx, name_or_id: str, *, force: bool = False, undo: bool = False
    ) -> StoragePeer:
        """Shut a peer out: it is told nothing any more, and its copies do not count.

        The others have to get new certificates besides, of an authority that it is not known to.
        Raises ``StoragePeerUnknown``, ``GatewayStays``; ``OnlyCopies`` unless ``force``.
        """
        found = await self._named(tx, name_or_id)
        if found.gateway and not undo:
            raise GatewayStays
        only = 0 if undo or force else await self._repository.only_here(tx, PeerId(found.id))
        if only:
            raise OnlyCopies(
                f"{found.name} has the only good copy of {only} packs: they would be locked.",
                way_out="Empty it first: `tesra drive drain`; or give them up: --force",
            )
        await self._repository.revoke(tx, PeerId(found.id), revoked=not undo)
        await self._alarms.over(tx, Kind.OFFLINE, [found.id])
        return found.model_copy(update={"state": "offline" if undo else "revoked"})

    async def _named(self, tx: Tx, name_or_id: str) -> StoragePeer:
        """The newest of that name, if several had it one after the other."""
        found = [one for one in await self.peers(tx) if name_or_id in {one.id, one.name}]
        if not found:
            raise StoragePeerUnknown(way_out="`tesra drive peers` lists them.")
        return max(found, key=lambda one: one.last_seen)

    async def alarms(
        self, tx: Tx, owner: UserId | None, *, before: str | None, limit: int, everything: bool
    ) -> list[Alarm]:
        """The newest first; those about a user's own packs, or all for an operator (None)."""
        only = packs_of(owner) if owner is not None else None
        return await self._alarms.listing(
            tx, before=before, limit=limit, everything=everything, packs=only
        )

    # -- audits -----------------------------------------------------------------------------

    async def audit(self, *, limit: int = AUDITS_A_PASS) -> int:
        """Challenge who has not been proven for long, and see who owes an answer."""
        await self._watch()
        async with self._database.begin() as tx:
            due = await self._repository.due(tx, every_s=EVERY_S, owner=None, limit=limit)
            await self._challenge(tx, due)
        return len(due)

    async def audit_now(self, tx: Tx, owner: UserId | None) -> AuditStand:
        """Challenge every copy of a user's packs (of all packs for None), and have the holders
        read them through."""
        copies = await self._repository.due(tx, every_s=-1.0, owner=owner, limit=MOST_AT_ONCE)
        await self._challenge(tx, copies)
        for copy in copies:
            await self._repository.challenge(tx, copy, SCRUB, ())
        return AuditStand(asked=len(copies), open=len(copies))

    async def audit_stand(self, owner: UserId | None) -> AuditStand:
        """How many copies still owe an answer."""
        await self._watch()
        async with self._database.begin() as tx:
            asked = await self._repository.challenges(tx, owner=owner)
        left = {(one.pack_id, one.peer) for one in asked if not one.stalled}
        stalled = {(one.pack_id, one.peer) for one in asked if one.stalled}
        return AuditStand(open=len(left), stalled=len(stalled))

    async def _challenge(self, tx: Tx, copies: Sequence[HeldCopy]) -> None:
        trees = await self._copies.trees(tx, {copy.pack_id for copy in copies})
        for copy in copies:
            blocks = choose_blocks(trees[copy.pack_id], secrets.randbelow)
            await self._repository.challenge(tx, copy, PROVE, blocks)
        if copies:
            await notify_all(tx, [f"peer:{peer}" for peer in {copy.peer for copy in copies}])

    async def _watch(self) -> None:
        """Who is away is asked later; who speaks and owes an answer stalls."""
        async with self._database.begin() as tx:
            peers = {peer.id: peer for peer in await self._copies.peers(tx)}
            asked = await self._repository.challenges(tx)
            queued: dict[PeerId, int] = {}
            for one in asked:
                queued[one.peer] = queued.get(one.peer, 0) + one.size_bytes
            for one in asked:
                if not peers[one.peer].reachable:
                    await self._repository.close(tx, one.pack_id, one.peer, one.kind)
                elif not one.stalled and is_overdue(
                    one.asked_ago_s, scrub=one.kind == SCRUB, queued_bytes=queued[one.peer]
                ):
                    await self._evidence.stalls(tx, one.peer, audit=one.id)

    # -- repair -----------------------------------------------------------------------------

    async def repair(self, *, rebalance: bool = False, gone_s: float = GONE_S) -> int:
        """Order what the packs need; the number of orders. One planner at a time."""
        await self._adopt()
        async with self._database.begin() as tx:
            if not await self._repository.alone(tx, _LOCK):
                return 0
            peers = {peer.id: peer for peer in await self._copies.peers(tx)}
            ids = await self._repository.unwell(tx, limit=PACKS_A_PASS, gone_s=gone_s)
            steps = await self._plan(tx, ids, peers, gone_s=gone_s)
            if rebalance:
                some = await self._repository.some_packs(tx, limit=REBALANCED_A_PASS)
                steps += await self._plan(tx, some, peers, rebalance=True, gone_s=gone_s)
            await self._tell_alarms(tx, peers, gone_s)
        return steps

    async def repair_pack(self, tx: Tx, pack_id: str) -> None:
        """The same for one pack, now: somebody waits for it."""
        hurried = await self._copies.hurry(tx, pack_id)
        await notify_all(tx, [f"peer:{source}" for source in hurried])
        peers = {peer.id: peer for peer in await self._copies.peers(tx)}
        await self._plan(tx, [bytes.fromhex(pack_id)], peers, reason=None)

    async def _plan(
        self,
        tx: Tx,
        ids: Sequence[bytes],
        peers: dict[PeerId, Peer],
        *,
        rebalance: bool = False,
        gone_s: float = GONE_S,
        reason: str | None = LATER,
    ) -> int:
        """``reason``: copies that nobody waits for are made when there is nothing else to do."""
        count = 0
        for pack in await self._repository.copies_of(tx, ids):
            tries = {copy.peer: copy.tries for copy in pack.copies}
            for step in plan_repair(pack, peers, rebalance=rebalance, gone_s=gone_s):
                count += 1
                await self._order(tx, step, tries.get(step.peer, 0), reason)
                if isinstance(step, Want):
                    peer = peers[step.peer]
                    peers[step.peer] = replace(peer, used_bytes=peer.used_bytes + pack.size_bytes)
        return count

    async def _order(self, tx: Tx, step: Step, tries: int, reason: str | None) -> None:
        match step:
            case Want(pack_id=pack, peer=peer, sources=sources):
                await self._copies.set_copy(
                    tx, pack, peer, "wanted", sources=list(sources), tries=tries, reason=reason
                )
                await notify_all(tx, [f"peer:{source}" for source in sources])
            case Drop(pack_id=pack, peer=peer):
                await self._copies.set_copy(tx, pack, peer, "dropping")
                await self._repository.close(tx, pack, peer)
                await notify_all(tx, [f"peer:{peer}"])
            case Forget(pack_id=pack, peer=peer):
                await self._copies.forget_copy(tx, pack, peer)
        log.info("%s", step)

    async def _adopt(self) -> None:
        """Packs that were put before there were peers: what the gateway has is the first copy."""
        async with self._database.begin() as tx:
            peers = await self._copies.peers(tx)
            if not any(peer.id == self._gateway for peer in peers):
                return
            unknown = await self._repository.untracked(tx, limit=PACKS_A_PASS)
        for pack_id in unknown:
            tree = await self._read_tree(pack_id)
            if tree is None or self._gateway is None:
                continue
            async with self._database.begin() as tx:
                await self._copies.add_tree(tx, tree)
                await self._copies.set_copy(tx, pack_id, self._gateway, "held")
            await asyncio.sleep(0)

    async def _tell_alarms(self, tx: Tx, peers: dict[PeerId, Peer], gone_s: float) -> None:
        away = {peer.id: peer for peer in peers.values() if peer.away_s > gone_s}
        rung = await self._alarms.open_subjects(tx, Kind.OFFLINE)
        for peer in [peer for peer in away.values() if peer.id not in rung]:
            minutes = f"{peer.away_s / 60:.0f}"
            words = said(f"{peer.name} has been away for {minutes} minutes.")
            await self._alarms.sound(tx, Kind.OFFLINE, peer.id, words)
        await self._alarms.over(tx, Kind.OFFLINE, sorted(rung - away.keys()))
        locked = await self._repository.locked(tx)
        rung = await self._alarms.open_subjects(tx, Kind.LOCKED)
        for pack_id in sorted(locked - rung):
            words = said(f"No good copy of pack {pack_id} is left: files that need it are locked.")
            await self._alarms.sound(tx, Kind.LOCKED, pack_id, words, pack_id=pack_id)
        await self._alarms.over(tx, Kind.LOCKED, sorted(rung - locked))


def _shown(row: Row[Any]) -> StoragePeer:
    standing = "online" if row.standing == GOOD else row.standing
    state = standing if row.reachable else "offline"
    return StoragePeer(
        id=row.id,
        name=row.name,
        state=state if row.revoked_at is None else "revoked",
        owner=row.owner,
        machine=row.machine,
        site=row.site,
        gateway=row.gateway,
        draining=row.draining,
        capacity_bytes=row.capacity_bytes,
        used_bytes=int(row.used_bytes),
        copies=row.copies,
        last_seen=row.last_seen,
    )
