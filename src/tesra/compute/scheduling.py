"""Which waiting run gets which devices. Pure: the dispatcher loads, this decides.

Fair between users (who holds the fewest devices goes first), first come within a user, a gang
all or nothing and inside one site. A run that has waited past ``PATIENCE_S`` without fitting
holds its device class back, so that small runs cannot starve a large gang.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tesra.compute.model import ClassOnOffer, Device
from tesra.kit.ids import NodeId, RunId, SiteId, UserId

PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued run. ``one_node``: all its devices must be on one machine (launch ``single``)."""

    run: RunId
    owner: UserId
    devices: int
    device_class: str | None
    one_node: bool
    waited_s: float


@dataclass(frozen=True, slots=True)
class Placement:
    """The devices of one gang, node by node in rank order; all of one class and one site."""

    run: RunId
    devices: tuple[Device, ...]


def place_runs(
    waiting: Sequence[Waiting], free: Iterable[Device], held_by: dict[UserId, int]
) -> list[Placement]:
    """Placements for as many of ``waiting`` (oldest first) as fit.

    ``held_by`` counts the devices each user's live runs hold now.
    """
    pool = _Pool(free)
    held = dict(held_by)
    queues: dict[UserId, list[Waiting]] = defaultdict(list)
    for run in waiting:
        queues[run.owner].append(run)
    placements: list[Placement] = []
    while queues:
        owner = min(queues, key=lambda user: (held.get(user, 0), -queues[user][0].waited_s))
        run = queues[owner][0]
        devices = pool.take(run)
        if devices is None:
            if run.waited_s > PATIENCE_S:
                pool.hold_back(run.device_class)
            del queues[owner]  # first come within a user: nothing of theirs overtakes
            continue
        placements.append(Placement(run=run.run, devices=devices))
        held[owner] = held.get(owner, 0) + run.devices
        queues[owner].pop(0)
        if not queues[owner]:
            del queues[owner]
    return placements


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
            )
        )
    return sorted(offers, key=lambda offer: (-offer.rating_micro_t, offer.device_class))


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
            chosen = _fewest_nodes(devices, run.devices, one_node=run.one_node)
            if chosen:
                candidates.append(
                    (-chosen[0].rating_micro_t, len(devices), device_class, site, chosen)
                )
        if not candidates:
            return None
        _, _, device_class, site, chosen = min(candidates, key=lambda c: c[:4])
        taken = {device.id for device in chosen}
        left = [d for d in self._free[device_class, site] if d.id not in taken]
        self._free[device_class, site] = left
        return chosen


def _fewest_nodes(
    devices: Sequence[Device], want: int, *, one_node: bool
) -> tuple[Device, ...] | None:
    by_node: dict[NodeId, list[Device]] = defaultdict(list)
    for device in devices:
        by_node[device.node].append(device)
    fitting = [node for node in by_node.values() if len(node) >= want]
    if fitting:
        return tuple(min(fitting, key=len)[:want])  # best fit leaves large nodes whole
    if one_node or len(devices) < want:
        return None
    chosen: list[Device] = []
    for node in sorted(by_node.values(), key=len, reverse=True):
        chosen.extend(node[: want - len(chosen)])
    return tuple(chosen)
