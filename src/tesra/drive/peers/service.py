"""Storage peers: who they are, what they are asked for, and that every pack is where it should be.

Orders are level-triggered: what the rows want is what a peer is told, as often as it asks; facts
say what is. So peers and servers may die at any point, and the next question mends it.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from blake3 import blake3

from tesra.db.engine import Database, Tx
from tesra.db.notify import Listener, notify, notify_all
from tesra.drive.model import PackUnknown
from tesra.drive.peers.care_repository import PROVE, SCRUB, CareRepository
from tesra.drive.peers.evidence import Evidence
from tesra.drive.peers.pacing import LATER_AT_ONCE, Pace
from tesra.drive.peers.placement import ACKNOWLEDGED_AT, COPIES, Peer, Spread, choose, spread
from tesra.drive.peers.repository import LATER, PeerRepository, Served
from tesra.kit.errors import Conflict, Unavailable
from tesra.kit.ids import PeerId
from tesra.storage.merkle import PackTree
from tesra.wire.peer import (
    Dropped,
    Fact,
    FetchFailed,
    FetchOrder,
    Held,
    Lost,
    PackTruth,
    PeerAddress,
    PeerOrders,
    Proof,
    ProofOrder,
    Quarantined,
    Scrubbed,
    Serving,
)

PROOFS_AT_ONCE = 64
SCRUBS_AT_ONCE = 32
ANOTHER_AFTER_S = 3.0  # a holder that has not got the pack by then: one more is asked too
GIVE_UP_S = 45.0
_LOOK_S = 1.5
_TREES_KNOWN = 2000  # of a few kB each

log = logging.getLogger(__name__)


class PeerUnknown(Conflict):
    """The server does not know this peer: enrol again."""


class TooFewPeers(Unavailable):
    """Not enough storage peers answer to keep this safe."""


class BeingCleared(Unavailable):
    """This very pack is being cleared away."""


@dataclass(frozen=True, slots=True)
class PackHealth:
    """``spread`` of its good copies, ``wanted``: on their way, ``bad``: lost or spoilt.

    ``needed``: how many holders a put waits for; one in a network of the gateway alone.
    """

    spread: Spread
    wanted: int
    bad: int
    needed: int = ACKNOWLEDGED_AT


@dataclass(frozen=True, slots=True)
class _Ask:
    """For how many copies of a pack, of whom; ``needed``: so many are waited for; ``more``: one more
    than is on its way, since it has not come."""

    peers: Sequence[Peer]
    goal: int
    needed: int
    more: bool


class PeerService:
    """One for a server process; ``gateway``: the peer whose folder this server writes to."""

    def __init__(
        self,
        database: Database,
        listener: Listener,
        evidence: Evidence,
        *,
        gateway: PeerId | None,
    ) -> None:
        self._database = database
        self._evidence = evidence
        self._audits = CareRepository()
        self._listener = listener
        self._gateway = gateway
        self._repository = PeerRepository()
        self._trees: dict[str, PackTree] = {}
        self._pace = Pace(self._repository, self._wake)

    async def enrol(self, tx: Tx, peer: Peer, *, holds: Sequence[str], authority: str = "") -> None:
        """The peer as it is now, with a certificate of ``authority``. Copies that it should have and
        has not are lost from now on; those that nobody reckoned with any more count again.

        Raises ``PeerRevoked``.
        """
        self._pace.forget_peers()
        await self._repository.require_welcome(tx, peer.id)
        await self._repository.upsert_peer(
            tx,
            {
                "id": peer.id,
                "name": peer.name,
                "owner": peer.owner,
                "machine": peer.machine,
                "site": peer.site,
                "authority": authority,
                "host": peer.host,
                "port": peer.port,
                "capacity_bytes": peer.capacity_bytes,
                "gateway": peer.gateway,
            },
        )
        there = set(holds)
        known = await self._repository.copy_states(
            tx, peer.id, states=("held", "wanted", "lost", "dropping", "bad")
        )
        unknown = [bytes.fromhex(pack_id) for pack_id in there - known.keys()]
        back = sorted(await self._audits.tracked(tx, unknown))
        gone = [pack for pack, state in known.items() if state == "held" and pack not in there]
        await self._evidence.missing(tx, peer.id, sorted(gone))
        waiting = {pack for pack, state in known.items() if state in {"wanted", "lost"}}
        back += sorted(waiting & there)
        for pack_id in back:
            await self._repository.set_copy(tx, pack_id, peer.id, "held")
            await notify(tx, f"pack:{pack_id}")

    async def orders(self, tx: Tx, peer: PeerId, *, authority: str = "") -> PeerOrders:
        """All that is wanted of the peer now; raises ``PeerUnknown``, also for one whose certificate
        is not of ``authority``, and ``PeerRevoked``."""
        if await self._pace.touch(tx, peer) != authority:
            raise PeerUnknown
        rows = await self._repository.to_do(tx, peer)
        wanted = [row for row in rows if row.state == "wanted"]
        states = {bytes(row.pack_id).hex(): row.state for row in rows}
        served = self._in_turn(
            peer,
            await self._repository.served(tx, peer, later_after_s=self._pace.later_after_s),
        )
        asked = await self._audits.challenges(tx, peer=peer)
        ids = {bytes(row.pack_id).hex() for row in wanted} | served.keys()
        trees = await self._trees_of(tx, ids)
        peers = {known.id: known for known in await self._pace.peers(tx)} if wanted else {}
        fetch = [
            FetchOrder(
                pack=_truth(trees[bytes(row.pack_id).hex()]),
                sources=[
                    PeerAddress(host=peers[PeerId(source)].host, port=peers[PeerId(source)].port)
                    for source in row.sources
                    if source in peers
                ],
            )
            for row in wanted
        ]
        serve = [_truth(trees[pack_id]) for pack_id in served]
        found = PeerOrders(
            version="",
            fetch=fetch,
            serve=serve,
            drop=sorted(pack for pack, state in states.items() if state == "dropping"),
            prove=[
                ProofOrder(audit=one.id, pack=one.pack_id, blocks=list(one.blocks))
                for one in asked[:PROOFS_AT_ONCE]
                if one.kind == PROVE
            ],
            scrub=[one.pack_id for one in asked if one.kind == SCRUB][:SCRUBS_AT_ONCE],
            quarantine=sorted(pack for pack, state in states.items() if state == "bad"),
        )
        told = f"{found.model_dump_json()} {sorted(served.items())}"
        version = blake3(told.encode()).hexdigest()[:16]
        return found.model_copy(update={"version": version})

    def _in_turn(self, peer: PeerId, served: Sequence[Served]) -> dict[str, int]:
        """Pack → how many wait for it; of copies that no put waits for some at a time."""
        now = [one for one in served if not one.later]
        later = served[len(now) :]
        if len(later) > LATER_AT_ONCE:
            self._pace.owe([peer])
        return {one.pack_id: one.waiting for one in (*now, *later[:LATER_AT_ONCE])}

    def note_use(self) -> None:
        """Somebody reads what the gateway has."""
        self._pace.use()

    async def _trees_of(self, tx: Tx, pack_ids: set[str]) -> dict[str, PackTree]:
        """What was asked for lately is known: a pack's tree never changes."""
        unknown = pack_ids - self._trees.keys()
        if unknown:
            if len(self._trees) + len(unknown) > _TREES_KNOWN:
                self._trees.clear()
            self._trees |= await self._repository.trees(tx, unknown)
        return {pack_id: self._trees[pack_id] for pack_id in pack_ids}

    async def take(self, tx: Tx, peer: PeerId, facts: Sequence[Fact]) -> None:
        """Apply what the peer says; raises ``PeerUnknown``, ``PeerRevoked``."""
        if await self._pace.touch(tx, peer) is None:
            raise PeerUnknown
        topics: list[str] = []
        for fact in facts:
            topics += await self._apply(tx, peer, fact)
        if topics:
            await notify_all(tx, list(dict.fromkeys(topics)))

    async def size_for(self, tx: Tx, peer: PeerId, pack_id: str) -> int:
        """How large a pack is that the peer has been told to bring from the server; raises
        ``PackUnknown`` for any other."""
        size = await self._repository.ordered_at_once(tx, pack_id, peer)
        if size is None:
            raise PackUnknown
        return size

    async def wake_all(self, tx: Tx) -> None:
        """Every peer asks for its orders now."""
        self._pace.forget_peers()
        peers = await self._repository.peers(tx)
        await notify_all(tx, [f"peer:{peer.id}" for peer in peers])

    async def secure(self, tree: PackTree, *, goal: int = COPIES) -> Spread:
        """The pack, whole in the gateway's folder, is with enough holders when this returns.

        More copies than are waited for go on being made, up to ``goal``. Without any peer enrolled the gateway's
        copy alone counts (a server without a storage network). Raises ``TooFewPeers``.
        """
        with (
            self._pace.putting(),
            self._listener.subscribe(f"pack:{tree.pack_id}") as changes,
        ):
            loop = asyncio.get_running_loop()
            begun, asked_at = loop.time(), loop.time()
            stand = await self._plan(tree, goal, more=False)
            while stand is not None and stand.spread.copies < stand.needed:
                await changes.wait(_LOOK_S)
                now = loop.time()
                if stand.wanted == 0 or now - begun > GIVE_UP_S:
                    raise TooFewPeers(
                        f"Only {stand.spread.copies} of {stand.needed} storage peers took the "
                        "data: the others are away, or full.",
                        way_out="Try again; the operator sees the peers with `tesra status`.",
                    )
                more = now - asked_at > ANOTHER_AFTER_S
                asked_at = now if more else asked_at
                stand = await self._plan(tree, goal, more=more)
        return stand.spread if stand is not None else Spread(1, 1, 1)

    async def release(self, tx: Tx, pack_ids: Sequence[str]) -> set[str]:
        """No index refers to these any more: every holder deletes its copy. Those that peers keep."""
        topics: set[str] = set()
        released: set[str] = set()
        for pack_id in pack_ids:
            for row in await self._repository.copies(tx, pack_id):
                released.add(pack_id)
                if row.state != "dropping":
                    await self._repository.set_copy(tx, pack_id, PeerId(row.peer_id), "dropping")
                    await self._audits.close(tx, pack_id, PeerId(row.peer_id))
                    topics.add(f"peer:{row.peer_id}")
        if topics:
            await notify_all(tx, sorted(topics))
        return released

    async def is_released(self, tx: Tx, pack_id: str) -> bool:
        """Whether the gateway is told to delete its copy."""
        rows = await self._repository.copies(tx, pack_id)
        return any(row.peer_id == self._gateway and row.state == "dropping" for row in rows)

    async def clear_unreferenced(self, *, age_s: float = 3600.0) -> int:
        """Copies of packs that no index refers to, left by puts that were cut off, and the trees of
        those that nobody holds any more."""
        async with self._database.begin() as tx:
            unreferenced = await self._audits.unreferenced(tx, age_s=age_s)
            for pack_id in unreferenced:
                await self._repository.lock_pack(tx, pack_id)
            still = await self._audits.unreferenced(tx, age_s=age_s)
            held = await self.release(tx, [pack for pack in unreferenced if pack in still])
            for pack_id in still - held:
                await self._repository.forget_tree(tx, pack_id)
        return len(held)

    async def locked(self, tx: Tx, pack_ids: set[str]) -> set[str]:
        """Those of the packs that no good copy is left of."""
        return await self._audits.locked(tx, [bytes.fromhex(one) for one in pack_ids])

    async def health(self, tx: Tx, pack_id: str) -> PackHealth:
        """How well the pack is kept."""
        peers = {peer.id: peer for peer in await self._repository.peers(tx)}
        copies = await self._repository.copies(tx, pack_id)
        held = [peers[PeerId(row.peer_id)] for row in copies if row.state == "held"]
        return PackHealth(
            spread(held),
            wanted=sum(row.state == "wanted" for row in copies),
            bad=sum(row.state in {"bad", "lost"} for row in copies),
        )

    async def _plan(self, tree: PackTree, goal: int, *, more: bool) -> PackHealth | None:
        """Want what is missing; answers the present spread, None without any peer.

        The copies that a put waits for are made at once, over the peers' connection to the server;
        the rest later, in the swarm, from whoever has the pack by then.
        """
        async with self._database.begin() as tx:
            peers = await self._pace.peers(tx)
            gateway = self._gateway
            if gateway is None or not any(peer.id == gateway for peer in peers):
                return None
            await self._repository.add_tree(tx, tree)
            copies = {
                PeerId(row.peer_id): LATER if row.reason == LATER else row.state
                for row in await self._repository.copies(tx, tree.pack_id)
            }
            if copies.get(gateway) == "dropping":
                raise BeingCleared(way_out="Send it again in a minute.")
            if copies.get(gateway) != "held":
                await self._repository.set_copy(tx, tree.pack_id, gateway, "held")
                copies[gateway] = "held"
            needed = min(ACKNOWLEDGED_AT, len(peers))
            ask = _Ask(peers, goal, needed, more=more)
            await self._want(tx, tree, copies, ask)
            by_id = {peer.id: peer for peer in peers}
            states = list(copies.values())
            return PackHealth(
                spread([by_id[peer] for peer, state in copies.items() if state == "held"]),
                wanted=states.count("wanted") + states.count(LATER),
                bad=states.count("bad") + states.count("lost"),
                needed=needed,
            )

    async def _want(
        self,
        tx: Tx,
        tree: PackTree,
        copies: dict[PeerId, str],
        ask: "_Ask",
    ) -> None:
        """Ask for the copies that ``copies`` lacks, and write them down there."""
        assert self._gateway is not None
        coming = [peer for peer, state in copies.items() if state in {"held", "wanted"}]
        if ask.more:
            self._pace.found_slow(peer for peer in coming if copies[peer] == "wanted")
        waiting = [peer for peer in ask.peers if copies.get(peer.id) == LATER]
        urgent = max(ask.needed - len(coming), 1 if ask.more else 0)
        fresh = choose(
            ask.peers,
            set(copies),
            pack_id=tree.pack_id,
            size_bytes=tree.size_bytes,
            count=max(ask.goal - len(coming), urgent) - len(waiting),
        )
        line = self._pace.quickest_first([*waiting, *fresh])
        for place, peer in enumerate(line):
            if place >= urgent and peer in waiting:
                continue
            if place < urgent:
                await self._repository.order_at_once(tx, tree.pack_id, peer.id)
                copies[peer.id] = "wanted"
                continue
            sources = [self._gateway, *(first.id for first in line[:urgent])]
            self._pace.owe(sources)
            await self._repository.set_copy(
                tx, tree.pack_id, peer.id, "wanted", sources=sources, reason=LATER
            )
            copies[peer.id] = LATER
        if urgent and line:
            await notify_all(tx, [f"peer:{peer.id}" for peer in line[:urgent]])

    async def _wake(self, peers: Iterable[PeerId]) -> None:
        async with self._database.begin() as tx:
            await notify_all(tx, [f"peer:{peer}" for peer in peers])

    async def _apply(self, tx: Tx, peer: PeerId, fact: Fact) -> list[str]:
        match fact:
            case Serving(pack=pack):
                waiting = await self._repository.make_ready(
                    tx, pack, peer, later_after_s=self._pace.later_after_s
                )
                return [f"peer:{other}" for other in waiting]
            case Held():
                return await self._evidence.held(tx, peer, fact)
            case FetchFailed():
                return await self._evidence.failed(tx, peer, fact)
            case Dropped():
                return await self._evidence.dropped(tx, peer, fact)
            case Lost():
                return await self._evidence.lost(tx, peer, fact)
            case Proof():
                return await self._evidence.proof(tx, peer, fact)
            case Scrubbed():
                return await self._evidence.scrubbed(tx, peer, fact)
            case Quarantined():
                return await self._evidence.quarantined(tx, peer, fact)


def _truth(tree: PackTree) -> PackTruth:
    return PackTruth(
        pack=tree.pack_id,
        size_bytes=tree.size_bytes,
        root=tree.root.hex(),
        layer=tree.layer.hex(),
    )
