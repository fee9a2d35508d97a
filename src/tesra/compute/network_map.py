"""The network as its operator sees it: sites, their nodes, the devices of each, and who speaks.

Whose runs hold a device is not said here: a map is about machines.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, func, select

from tesra.compute.repository import devices, nodes, reachable, sites
from tesra.db.engine import Tx

MOST_NODES = 500


@dataclass(frozen=True, slots=True)
class MappedDevice:
    """``state``: ``free``, ``busy``, or ``offline``; ``attempt`` is what holds it."""

    id: str
    index: int
    name: str
    device_class: str
    rating_micro_t: int
    measured_micro_t: int
    state: str
    attempt: str | None


@dataclass(frozen=True, slots=True)
class MappedNode:
    """A machine; ``online``: enrolled by its site now, and the site speaks."""

    id: str
    name: str
    address: str
    cores: int
    memory_bytes: int
    online: bool
    engines: int
    devices: tuple[MappedDevice, ...]

    @property
    def runs(self) -> int:
        """How many runs hold something here."""
        return len({device.attempt for device in self.devices if device.attempt})

    def count(self, state: str) -> int:
        return sum(device.state == state for device in self.devices)


@dataclass(frozen=True, slots=True)
class MappedSite:
    """``reachable``: it has spoken lately."""

    id: str
    name: str
    reachable: bool
    last_seen: datetime
    nodes: tuple[MappedNode, ...]


@dataclass(frozen=True, slots=True)
class DeviceCount:
    """Devices of the whole map."""

    total: int
    free: int
    busy: int
    offline: int
    rating_micro_t: int  # of those that are not offline


async def read_map(tx: Tx) -> list[MappedSite]:
    """Every site by name, with at most ``MOST_NODES`` nodes in all, those online first."""
    shown = list(await tx.execute(_nodes()))
    cards = await _cards(tx, [row.id for row in shown])
    machines: dict[str, list[MappedNode]] = defaultdict(list)
    speaks = {row.id: row for row in await tx.execute(_SITES)}
    for row in shown:
        online = bool(row.online and speaks[row.site_id].reachable)
        machines[row.site_id].append(_node(row, cards[row.id], online=online))
    return [
        MappedSite(row.id, row.name, row.reachable, row.last_seen, tuple(machines[row.id]))
        for row in speaks.values()
    ]


def count_devices(found: Sequence[MappedSite]) -> DeviceCount:
    """How many there are of each state."""
    every = [device for site in found for node in site.nodes for device in node.devices]
    states = [device.state for device in every]
    return DeviceCount(
        total=len(every),
        free=states.count("free"),
        busy=states.count("busy"),
        offline=states.count("offline"),
        rating_micro_t=sum(one.rating_micro_t for one in every if one.state != "offline"),
    )


_SITES = select(sites.c.id, sites.c.name, sites.c.last_seen, reachable.label("reachable")).order_by(
    sites.c.name
)


def _nodes() -> Select[Any]:
    engines = func.jsonb_array_length(nodes.c.engines).label("warm")
    return (
        select(nodes, engines)
        .order_by(nodes.c.online.desc(), nodes.c.name, nodes.c.id)
        .limit(MOST_NODES)
    )


async def _cards(tx: Tx, ids: Sequence[str]) -> dict[str, list[Row[Any]]]:
    """The devices of these nodes; of a node that is online only those that it has now."""
    found: dict[str, list[Row[Any]]] = {one: [] for one in ids}
    statement = (
        select(devices, devices.c.index.label("place"))
        .join(nodes, nodes.c.id == devices.c.node_id)
        .where(devices.c.node_id.in_(ids), devices.c.online | ~nodes.c.online)
        .order_by(devices.c.index, devices.c.id)
    )
    for row in await tx.execute(statement):
        found[row.node_id].append(row)
    return found


def _node(row: Row[Any], cards: Sequence[Row[Any]], *, online: bool) -> MappedNode:
    return MappedNode(
        id=row.id,
        name=row.name,
        address=row.address,
        cores=row.cores,
        memory_bytes=row.memory_bytes,
        online=online,
        engines=row.warm,
        devices=tuple(_device(card, online=online) for card in cards),
    )


def _device(row: Row[Any], *, online: bool) -> MappedDevice:
    held = "free" if row.attempt_id is None else "busy"
    return MappedDevice(
        id=row.id,
        index=row.place,
        name=row.name,
        device_class=row.device_class,
        rating_micro_t=row.rating_micro_t,
        measured_micro_t=row.measured_micro_t,
        state=held if online and row.online else "offline",
        attempt=row.attempt_id,
    )
