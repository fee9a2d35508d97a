"""Which waiting run gets which devices. Pure: the dispatcher loads, this decides.

Fair between users by what they used lately (their *share*), by priority and then first come
within a user, a gang all or nothing and inside one site. A share is past use, which decays with
``HALF_LIFE_S``, plus what the held devices will use in ``AHEAD_H``, minus a credit for waiting
without holding anything. The credit grows without end while shares are bounded, so nobody starves.
A run that has waited past ``PATIENCE_S`` without fitting holds its device class back, so that
small runs cannot starve a large gang.
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tesra.compute.model import ClassOnOffer, Device, NodeOnOffer
from tesra.kit.ids import NodeId, RunId, SiteId, UserId

PATIENCE_S = 120.0
HALF_LIFE_S = 86_400.0  # yesterday's use counts half
AHEAD_H = 1.0  # a held device counts as if it had been used so long already
CREDIT = 4.0  # an hour of waiting makes up for so many hours of a device
_HOUR_S = 3600.0
_MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued run. ``one_node``: all its devices must be on one machine (launch ``single``).

    ``near``: nodes that have its data; of places that are equal otherwise, it gets one there.
    """

    run: RunId
    owner: UserId
    devices: int
    device_class: str | None
    one_node: bool
    waited_s: float
    priority: int = 0
    near: frozenset[NodeId] = frozenset()


@dataclass(frozen=True, slots=True)
class RecentUse:
    """A user's use, decayed to now, and how long ago the latest of it was."""

    micro_th: float
    idle_s: float


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides a user's turn: recent use, the rating of all held devices, time since the last use."""

    used_micro_th: float = 0.0
    held_micro_t: int = 0
    idle_s: float = float("inf")

    def share(self, waited_s: float, device_micro_t: float) -> float:
        """Who has the least is next; in micro-T·H. ``device_micro_t`` is what one device is rated at."""
        share = self.used_micro_th + self.held_micro_t * AHEAD_H
        if self.held_micro_t:
            return share
        return share - min(waited_s, self.idle_s) / _HOUR_S * CREDIT * device_micro_t


@dataclass(frozen=True, slots=True)
class Placement:
    """The devices of one gang, node by node in rank order; all of one class and one site."""

    run: RunId
    devices: tuple[Device, ...]


def decayed(micro_th: float, age_s: float) -> float:
    """What use of so long ago still counts."""
    return micro_th * math.exp2(-max(0.0, age_s) / HALF_LIFE_S)


def place_runs(
    waiting: Sequence[Waiting], free: Iterable[Device], standings: Mapping[UserId, Standing]
) -> list[Placement]:
    """Placements for as many of ``waiting`` as fit; who has no standing has used nothing."""
    free = list(free)
    pool = _Pool(free)
    turns = _Turns(waiting, standings, _mean_rating(free))
    placements: list[Placement] = []
    while (run := turns.next()) is not None:
        devices = pool.take(run)
        if devices is None:
            if run.waited_s > PATIENCE_S:
                pool.hold_back(run.device_class)
            turns.skip_owner()  # nothing of theirs overtakes
            continue
        placements.append(Placement(run=run.run, devices=devices))
        turns.placed(sum(device.rating_micro_t for device in devices))
    return placements


def queue_order(
    waiting: Sequence[Waiting], standings: Mapping[UserId, Standing], devices: Iterable[Device]
) -> list[RunId]:
    """In which order runs get their turn, if each fitted when it came; ``devices`` are all there are."""
    device_micro_t = _mean_rating(devices)
    turns = _Turns(waiting, standings, device_micro_t)
    order: list[RunId] = []
    while (run := turns.next()) is not None:
        order.append(run.run)
        turns.placed(round(run.devices * device_micro_t))
    return order


def fits(run: Waiting, free: Iterable[Device]) -> bool:
    """Whether the run could be placed if nobody else waited."""
    return gang_of(run, free) is not None


def gang_of(run: Waiting, free: Iterable[Device]) -> tuple[Device, ...] | None:
    """The devices that it would get then."""
    return _Pool(free).take(run)


def possible(waiting: Iterable[Waiting], devices: Iterable[Device]) -> list[Waiting]:
    """Those that fit once enough of ``devices``, all there are, are free.

    The others wait for a node to come back, or for more: meanwhile they stand in nobody's way.
    """
    present = [device for device in devices if device.reachable]
    gangs, singles = largest_gangs(present), largest_single(present)

    def most(run: Waiting) -> int:
        sizes = singles if run.one_node else gangs
        found = [size for name, size in sizes.items() if run.device_class in (None, name)]
        return max(found, default=0)

    return [run for run in waiting if run.devices <= most(run)]


def largest_gangs(devices: Iterable[Device]) -> dict[str, int]:
    """For each class, the most devices that one site has, busy ones included."""
    per_site: dict[tuple[str, SiteId], int] = defaultdict(int)
    for device in devices:
        per_site[device.device_class, device.site] += 1
    largest: dict[str, int] = {}
    for (device_class, _), count in per_site.items():
        largest[device_class] = max(count, largest.get(device_class, 0))
    return largest


def largest_single(devices: Iterable[Device]) -> dict[str, int]:
    """For each class, the most devices that one node has, busy ones included."""
    per_node: dict[tuple[str, NodeId], int] = defaultdict(int)
    for device in devices:
        per_node[device.device_class, device.node] += 1
    largest: dict[str, int] = {}
    for (device_class, _), count in per_node.items():
        largest[device_class] = max(count, largest.get(device_class, 0))
    return largest


def classes_on_offer(devices: Sequence[Device]) -> list[ClassOnOffer]:
    """What can be asked for, the strongest class first."""
    gangs = largest_gangs(devices)
    offers = []
    for device_class, gang in gangs.items():
        own = [device for device in devices if device.device_class == device_class]
        offers.append(
            ClassOnOffer(
                device_class=device_class,
                rating_micro_t=max(device.rating_micro_t for device in own),
                total=len(own),
                free=sum(device.free for device in own),
                largest_gang=gang,
                nodes=_by_node(own),
            )
        )
    return sorted(offers, key=lambda offer: (-offer.rating_micro_t, offer.device_class))


class _Turns:
    """Whose run is next. ``next`` answers the same run until it is ``placed`` or its owner skipped."""

    def __init__(
        self,
        waiting: Sequence[Waiting],
        standings: Mapping[UserId, Standing],
        device_micro_t: float,
    ) -> None:
        self._device_micro_t = device_micro_t
        self._held: dict[UserId, int] = defaultdict(int)
        self._standings = standings
        self._queues: dict[UserId, list[Waiting]] = defaultdict(list)
        for run in waiting:
            self._queues[run.owner].append(run)
        for queue in self._queues.values():
            queue.sort(key=lambda run: (-run.priority, -run.waited_s))
            queue.reverse()  # the next one stands last
        self._heap = [self._entry(owner) for owner in self._queues]
        heapq.heapify(self._heap)

    def next(self) -> Waiting | None:
        return self._queues[self._heap[0][2]][-1] if self._heap else None

    def placed(self, micro_t: int) -> None:
        """The run whose turn it was holds devices of this rating now."""
        owner = self._heap[0][2]
        self._held[owner] += max(1, micro_t)
        self._queues[owner].pop()
        if self._queues[owner]:
            heapq.heapreplace(self._heap, self._entry(owner))
        else:
            heapq.heappop(self._heap)

    def skip_owner(self) -> None:
        """Nothing more of this user's in this round."""
        heapq.heappop(self._heap)

    def _entry(self, owner: UserId) -> tuple[float, float, UserId]:
        run, known = self._queues[owner][-1], self._standings.get(owner, Standing())
        now = Standing(known.used_micro_th, known.held_micro_t + self._held[owner], known.idle_s)
        return now.share(run.waited_s, self._device_micro_t), -run.waited_s, owner


def _mean_rating(devices: Iterable[Device]) -> float:
    ratings = [device.rating_micro_t for device in devices]
    return sum(ratings) / len(ratings) if ratings else float(_MICRO)


def _by_node(devices: Sequence[Device]) -> tuple[NodeOnOffer, ...]:
    """By the nodes' names."""
    groups: dict[tuple[str, NodeId], list[Device]] = defaultdict(list)
    for device in devices:
        groups[device.node_name, device.node].append(device)
    return tuple(
        NodeOnOffer(name, len(own), sum(device.free for device in own))
        for (name, _), own in sorted(groups.items())
    )


class _Pool:
    """The free devices, by class and site."""

    def __init__(self, free: Iterable[Device]) -> None:
        self._free: dict[tuple[str, SiteId], list[Device]] = defaultdict(list)
        for device in sorted(free, key=lambda d: (d.node, d.index)):
            self._free[device.device_class, device.site].append(device)
        self._held_back: set[str] = set()

    def hold_back(self, device_class: str | None) -> None:
        """Nothing more is taken from this class in this round (from no class at all if None)."""
        classes = {device_class} if device_class else {key[0] for key in self._free}
        self._held_back |= classes

    def take(self, run: Waiting) -> tuple[Device, ...] | None:
        """The devices for ``run``, strongest class first, on as few nodes as possible; or None."""
        candidates = []
        for (device_class, site), devices in self._free.items():
            if device_class in self._held_back or run.device_class not in (None, device_class):
                continue
            chosen = _fewest_nodes(devices, run)
            if chosen:
                nodes = len({device.node for device in chosen})
                far = sum(device.node not in run.near for device in chosen)
                rank = (-chosen[0].rating_micro_t, nodes, far, len(devices), device_class, site)
                candidates.append((rank, chosen))
        if not candidates:
            return None
        (*_, device_class, site), chosen = min(candidates, key=lambda c: c[0])
        taken = {device.id for device in chosen}
        left = [d for d in self._free[device_class, site] if d.id not in taken]
        self._free[device_class, site] = left
        return chosen


def _fewest_nodes(devices: Sequence[Device], run: Waiting) -> tuple[Device, ...] | None:
    by_node: dict[NodeId, list[Device]] = defaultdict(list)
    for device in devices:
        by_node[device.node].append(device)

    def far(own: list[Device]) -> bool:
        return own[0].node not in run.near

    want = run.devices
    fitting = [node for node in by_node.values() if len(node) >= want]
    if fitting:  # best fit leaves large nodes whole
        return tuple(min(fitting, key=lambda own: (far(own), len(own)))[:want])
    if run.one_node or len(devices) < want:
        return None
    chosen: list[Device] = []
    for node in sorted(by_node.values(), key=lambda own: (-len(own), far(own))):
        chosen.extend(node[: want - len(chosen)])
    return tuple(chosen)
