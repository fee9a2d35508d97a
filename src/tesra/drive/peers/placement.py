"""Which peers hold which pack. Pure.

Copies go to distinct owners first, then to distinct sites, then to distinct machines, so that what
dies together holds as little together as can be; within that, to who has most room. A spread that
can't be had is not an error here: ``spread`` tells what there is, and nobody calls it safe.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from blake3 import blake3

from tesra.kit.ids import PeerId

COPIES = 3  # of a pack, unless its drive's owner has chosen another number
ACKNOWLEDGED_AT = 2  # distinct holders before a put is answered
MOST_COPIES = 9
GOOD = "good"
CONTAINED = "contained"  # it speaks, and does not show what it is asked for
FAILED = "failed"  # it has shown something else than it was given


@dataclass(frozen=True, slots=True)
class Peer:
    """A storage peer as placement sees it; ``reachable``: it has spoken lately; ``site``: the place
    that it stands in, empty when nobody has said so.

    ``standing``: what audits have found; one that is contained gets nothing new, one that has
    failed gets it last.
    """

    id: PeerId
    owner: str
    machine: str
    host: str
    port: int
    capacity_bytes: int
    used_bytes: int = 0
    gateway: bool = False
    reachable: bool = True
    draining: bool = False
    name: str = ""
    away_s: float = 0.0
    standing: str = GOOD
    site: str = ""

    @property
    def free_bytes(self) -> int:
        return self.capacity_bytes - self.used_bytes


@dataclass(frozen=True, slots=True)
class Spread:
    """Over how much a pack's good copies are spread."""

    copies: int
    machines: int
    owners: int


def choose(
    peers: Sequence[Peer], holders: Collection[PeerId], *, pack_id: str, size_bytes: int, count: int
) -> list[Peer]:
    """Up to ``count`` more peers for a pack that ``holders`` have (or are getting), best first."""
    chosen: list[Peer] = []
    have = [peer for peer in peers if peer.id in holders]
    free = [
        peer
        for peer in peers
        if peer.id not in holders
        and peer.reachable
        and not peer.draining
        and peer.standing != CONTAINED
        and peer.free_bytes >= size_bytes
    ]
    while free and len(chosen) < count:
        taken = [*have, *chosen]
        best = min(
            free,
            key=lambda peer: (peer.standing == FAILED, *shared(peer, taken), _turn(peer, pack_id)),
        )
        free.remove(best)
        chosen.append(best)
    return chosen


def spread(holders: Collection[Peer]) -> Spread:
    """What these good copies amount to."""
    return Spread(
        copies=len(holders),
        machines=len({peer.machine for peer in holders}),
        owners=len({peer.owner for peer in holders}),
    )


def shared(peer: Peer, taken: Sequence[Peer]) -> tuple[int, int, int, int]:
    """How much this peer would die together with what holds the pack; then how full it is."""
    owners = sum(other.owner == peer.owner for other in taken)
    sites = sum(bool(peer.site) and other.site == peer.site for other in taken)
    machines = sum(other.machine == peer.machine for other in taken)
    return owners, sites, machines, full_tenths(peer)


def full_tenths(peer: Peer) -> int:
    return 10 * peer.used_bytes // max(1, peer.capacity_bytes)


def _turn(peer: Peer, pack_id: str) -> bytes:
    """Peers that are alike take turns, the same for everybody who asks about this pack."""
    return blake3(f"{pack_id}:{peer.id}".encode()).digest()
