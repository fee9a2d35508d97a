"""The metrics of one attempt on one node: read while the gang runs, spooled, and delivered.

Reading goes on in a thread, a bounded round at a time; whatever goes wrong there is said in the
run's log and never ends a run. When the gang is gone everything is read a last time, and delivered
before the attempt ends; a server that refuses metrics does not keep it from ending.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tesra.node.courier import Growing, Parcels
from tesra.node.devices import FoundDevice
from tesra.node.metrics.collector import Collector, Source
from tesra.node.metrics.devices import DeviceUse, UsedDevice
from tesra.node.metrics.point_spool import PointSpool
from tesra.node.metrics.tracking_server import TrackingServer
from tesra.node.orders import GangOrder
from tesra.node.placing import nodes_of
from tesra.node.ranks import Gang, GangFailed
from tesra.node.workspace import AttemptFolders

ROUND_S = 0.25
_REST = 4.0  # a round that took long is followed by a rest of as many times its length

_log = logging.getLogger(__name__)


class AttemptMetrics:
    """``say`` writes to the run's log; what is found is among the attempt's ``parcels``."""

    def __init__(self, parcels: Parcels, *, say: Callable[[str], None]) -> None:
        self._parcels = parcels
        self._name = f"{parcels.attempt}: metrics"
        self._say = say
        self._gang_gone = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._collector: Collector | None = None
        self._tracking: TrackingServer | None = None

    async def open(self, folders: AttemptFolders) -> None:
        """Before the ranks are planned: MLflow has an address here; without one they run too."""
        kept = folders.output_path / "mlflow"
        self._tracking = TrackingServer(folders.work / "mlruns" if kept.parent.suffix else kept)
        try:
            await self._tracking.open()
        except OSError:
            _log.exception("%s: no endpoint for MLflow", self._name)

    def variables(self, rank: int) -> dict[str, str]:
        """What a rank is told, unless its user says otherwise."""
        return self._tracking.variables(rank) if self._tracking is not None else {}

    async def begin(
        self,
        folders: AttemptFolders,
        order: GangOrder,
        gang: Gang,
        devices: Mapping[int, FoundDevice],
    ) -> None:
        """The gang is about to start; ``devices`` are the node's, by their index."""
        source = order.place.node_rank
        spool, ranks = PointSpool(_spool_of(folders), self._say), gang.ranks
        since = await asyncio.to_thread(spool.begin)
        _plan_of(folders).write_text(json.dumps({"source": source, "ranks": ranks}))
        self._follow(spool, source)
        use = DeviceUse(
            used_devices(order, ranks, devices), pid=lambda: _pid_of(gang), pids=gang.pids
        )
        more: dict[str, Source] = {"devices": use}
        if self._tracking is not None:
            more["mlflow"] = self._tracking
        self._collector = Collector(folders, ranks, spool, since=since, pids=gang.pids, more=more)
        self._reading = asyncio.create_task(self._read())

    async def resume(self, folders: AttemptFolders) -> None:
        """Take over what an agent that died has left: the gang is gone."""
        try:
            plan = json.loads(_plan_of(folders).read_text())
            source, ranks = int(plan["source"]), [int(rank) for rank in plan["ranks"]]
        except (OSError, ValueError, KeyError, TypeError):
            return
        spool = PointSpool(_spool_of(folders), self._say)
        positions = await asyncio.to_thread(spool.resume)
        self._follow(spool, source)
        if positions is not None:
            self._collector = Collector(folders, ranks, spool)
            self._collector.go_on(positions)

    async def sweep(self) -> None:
        """The gang is gone: read what is left."""
        await self.close()
        if self._collector is not None:
            await self._survived(self._collector.last_sweep)
            self._collector = None

    async def close(self) -> None:
        """The gang is gone: nothing is read as it is written any more."""
        self._gang_gone.set()
        if self._tracking is not None:
            await self._tracking.close()
        if self._reading is not None:
            await self._reading
            self._reading = None

    def _follow(self, spool: PointSpool, source: int) -> None:
        self._parcels.follow(Growing("metrics", source, spool.path, end=lambda: spool.size))

    async def _read(self) -> None:
        pause_s = ROUND_S  # before the first round too: a gang that is gone by then is swept once
        while self._collector is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._gang_gone.wait()
            if self._gang_gone.is_set():
                return
            began = time.monotonic()
            await self._survived(self._collector.round)
            pause_s = max(ROUND_S, (time.monotonic() - began) * _REST)

    async def _survived(self, step: Callable[[], object]) -> None:
        """Do a step in a thread; when it fails nothing more is read, and the run goes on."""
        try:
            await asyncio.to_thread(step)
        except Exception as error:  # noqa: BLE001 - a worker's outer loop: logged and marked
            _log.exception("%s", self._name)
            self._collector = None
            with contextlib.suppress(OSError):  # of a full disk nothing can be said either
                self._say(f"Metrics: the node can read no more of them: {error!r}")


def used_devices(
    order: GangOrder, ranks: Sequence[int], devices: Mapping[int, FoundDevice]
) -> list[UsedDevice]:
    """This node's devices of a gang, each with the rank that works on it."""
    node = nodes_of(order.assignment)[order.place.node_rank]
    ids = [device.device for device in order.assignment.devices if device.node == node]
    working = ranks if len(ranks) == len(ids) else [ranks[0]] * len(ids)
    return [
        UsedDevice(device, rank, devices[index])
        for device, rank, index in zip(ids, working, order.indices, strict=True)
    ]


def _pid_of(gang: Gang) -> int | None:
    try:
        return gang.pid
    except GangFailed:
        return None


def _spool_of(folders: AttemptFolders) -> Path:
    return folders.root / "points.jsonl"


def _plan_of(folders: AttemptFolders) -> Path:
    return folders.root / "points.plan"
