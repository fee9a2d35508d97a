"""What has to be done about a pack's copies. Pure; level-triggered: asked again, it says the same
until it is done, and nothing once it is.

Only good copies count: those of peers that are there, or have not been away for long. Nothing is
dropped before enough others are held; the last good copy is never dropped.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tesra.drive.peers.placement import (
    ACKNOWLEDGED_AT,
    CONTAINED,
    COPIES,
    Peer,
    choose,
    full_tenths,
    shared,
)
from tesra.kit.ids import PeerId

GONE_S = 300.0  # a peer that is away for longer is replaced; its copies count again when it is back
STUCK_S = 45.0  # a copy on its way for longer than this gets other sources, or is given up
_BACKOFF_FIRST_S = 15.0
_BACKOFF_MOST_S = 3600.0
MOST_SOURCES = 4


@dataclass(frozen=True, slots=True)
class Copy:
    """One peer's copy; ``age_s``: since it is in this state; ``tries``: failed ones in a row."""

    peer: PeerId
    state: str
    age_s: float = 0.0
    tries: int = 0
    ready: bool = False
    sources: tuple[PeerId, ...] = ()


@dataclass(frozen=True, slots=True)
class PackCopies:
    """A pack and its copies, in whatever state; ``goal``: how many good ones there shall be."""

    pack_id: str
    size_bytes: int
    copies: tuple[Copy, ...]
    goal: int = COPIES


@dataclass(frozen=True, slots=True)
class Want:
    """``peer`` shall fetch it from ``sources``; again with others replaces the order."""

    pack_id: str
    peer: PeerId
    sources: tuple[PeerId, ...]


@dataclass(frozen=True, slots=True)
class Forget:
    """A copy that will not come: the peer is not waited for any more."""

    pack_id: str
    peer: PeerId


@dataclass(frozen=True, slots=True)
class Drop:
    """The peer shall delete its copy: there are enough without it."""

    pack_id: str
    peer: PeerId


Step = Want | Forget | Drop


def retry_after_s(tries: int) -> float:
    """How long a peer that failed so often is not asked for the same pack again."""
    return 0.0 if tries == 0 else min(_BACKOFF_FIRST_S * 2.0 ** (tries - 1), _BACKOFF_MOST_S)


def locked(pack: PackCopies) -> bool:
    """Whether there is no good copy left anywhere, not even with a peer that is away."""
    return not any(copy.state == "held" for copy in pack.copies)


def plan_repair(
    pack: PackCopies,
    peers: Mapping[PeerId, Peer],
    *,
    rebalance: bool = False,
    gone_s: float = GONE_S,
) -> list[Step]:
    """What to order now; nothing for a pack that is as it should be, or can't be helped now."""
    now = _Stand(pack, peers, gone_s)
    steps: list[Step] = [Forget(pack.pack_id, copy.peer) for copy in now.hopeless]
    if not now.sources:
        return steps
    stuck = [copy for copy in now.coming if _is_stuck(copy, now)]
    steps += [Want(pack.pack_id, copy.peer, now.sources_for(copy.peer)) for copy in stuck]
    wanted = _missing(now)
    steps += [Want(pack.pack_id, peer.id, now.sources_for(peer.id)) for peer in wanted]
    if not wanted and not now.coming:
        spare = _spare(now)
        if spare is not None:
            steps.append(Drop(pack.pack_id, spare.id))
        elif rebalance and (better := _better(now)) is not None:
            steps.append(Want(pack.pack_id, better.id, now.sources_for(better.id)))
    return steps


class _Stand:
    """How a pack stands with these peers."""

    def __init__(self, pack: PackCopies, peers: Mapping[PeerId, Peer], gone_s: float) -> None:
        self.gone_s = gone_s
        self.pack = pack
        self.peers = peers
        held = [peers[copy.peer] for copy in pack.copies if copy.state == "held"]
        present = [peer for peer in held if peer.away_s <= gone_s]
        self.draining = [peer for peer in present if peer.draining]
        self.good = [peer for peer in present if not peer.draining]
        usable = [peer for peer in held if peer.reachable]
        willing = [peer for peer in usable if peer.standing != CONTAINED]
        self.sources = tuple(peer.id for peer in willing or usable)
        wanted = [copy for copy in pack.copies if copy.state == "wanted"]
        self.hopeless = [copy for copy in wanted if _is_hopeless(copy, peers[copy.peer])]
        self.coming = [copy for copy in wanted if copy not in self.hopeless]

    def sources_for(self, peer: PeerId) -> tuple[PeerId, ...]:
        return tuple(source for source in self.sources if source != peer)[:MOST_SOURCES]

    @property
    def taken(self) -> set[PeerId]:
        """Peers that are no choice for one more copy."""
        gone = {copy.peer for copy in self.hopeless}
        return gone | {
            copy.peer
            for copy in self.pack.copies
            if copy.state != "lost" or copy.age_s < retry_after_s(copy.tries)
        }


def _missing(now: _Stand) -> list[Peer]:
    """Who shall have it as well: the gateway before all, since the server reads there."""
    open_to = [peer for peer in now.peers.values() if peer.id not in now.taken]
    count = now.pack.goal - len(now.good) - len(now.coming)
    gateways = choose(
        [peer for peer in open_to if peer.gateway],
        (),
        pack_id=now.pack.pack_id,
        size_bytes=now.pack.size_bytes,
        count=1,
    )
    holders = [*now.good, *(now.peers[copy.peer] for copy in now.coming), *gateways]
    others = choose(
        [*holders, *(peer for peer in open_to if not peer.gateway)],
        {peer.id for peer in holders},
        pack_id=now.pack.pack_id,
        size_bytes=now.pack.size_bytes,
        count=max(0, count - len(gateways)),
    )
    return [*gateways, *others]


def _spare(now: _Stand) -> Peer | None:
    """A copy that nobody would miss: one that is draining, or the worst of too many."""
    safe = [peer for peer in now.good if peer.reachable and peer.standing != CONTAINED]
    if now.draining and len(safe) >= min(now.pack.goal, max(ACKNOWLEDGED_AT, _possible(now))):
        return now.draining[0]
    if len(safe) <= now.pack.goal:
        return None
    return max(
        (peer for peer in safe if not peer.gateway),
        key=lambda peer: (*shared(peer, [o for o in safe if o.id != peer.id]), peer.id),
        default=None,
    )


def _possible(now: _Stand) -> int:
    """How many peers could hold it at all, those that are being emptied aside."""
    return sum(not peer.draining and peer.away_s <= now.gone_s for peer in now.peers.values())


def _better(now: _Stand) -> Peer | None:
    """A peer that had better hold it than one of those that do: it would die less together with
    the others, or it is much emptier."""
    movable = [peer for peer in now.good if not peer.gateway]
    if len(now.good) != now.pack.goal or not movable:
        return None
    worst = max(
        movable, key=lambda peer: (*shared(peer, [o for o in now.good if o.id != peer.id]), peer.id)
    )
    rest = [peer for peer in now.good if peer.id != worst.id]
    found = choose(
        [*now.good, *(peer for peer in now.peers.values() if peer.id not in now.taken)],
        {peer.id for peer in now.good},
        pack_id=now.pack.pack_id,
        size_bytes=now.pack.size_bytes,
        count=1,
    )
    if not found:
        return None
    new, old = shared(found[0], rest), shared(worst, rest)
    emptier = full_tenths(found[0]) + 2 <= full_tenths(worst)
    return found[0] if new[:3] < old[:3] or (new[:3] == old[:3] and emptier) else None


def _is_hopeless(copy: Copy, peer: Peer) -> bool:
    away = not peer.reachable or peer.standing == CONTAINED
    return away and copy.age_s > STUCK_S


def _is_stuck(copy: Copy, now: _Stand) -> bool:
    """Nobody of those that it was told to fetch from can give it."""
    return copy.age_s > STUCK_S and not set(copy.sources) & set(now.sources)
