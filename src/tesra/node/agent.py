"""The node agent: a long-lived actor that keeps a node's attempts alive without its controller.

Thin: it answers at once and lets ``attempts`` do the work. It counts every lease on its own
monotonic clock, so a controller, a head or a network that is gone ends the gangs in time.
"""

import asyncio
import contextlib
import logging
import sys
import time

from tesra.kit.saying import said
from tesra.node.attempt_record import AttemptRecord, folders_of, load_records
from tesra.node.attempts import Attempt, NodeTools
from tesra.node.courier import Courier
from tesra.node.data import DataCache
from tesra.node.disposal import Disposal
from tesra.node.environments import EnvironmentBuilder
from tesra.node.inventory import Inventory, node_devices
from tesra.node.near_packs import near_fetch
from tesra.node.orders import (
    AgentConfig,
    AgentReport,
    AttemptStatus,
    GangOrder,
    Stage,
    StopReason,
)
from tesra.node.ports import Ports
from tesra.node.projects import ProjectCache
from tesra.node.runtime import runtime_folder
from tesra.node.sandbox import Sandbox
from tesra.node.site_client import SiteClient
from tesra.node.tuning.model import Order
from tesra.wire.site import EnrolNode, RunLimit

_WATCH_S = 1.0
_TELL_EVERY_S = 0.05  # a change is told at once, those that follow it soon after, together
_TELL_EACH_S = 0.006  # so much later for each attempt that lives: a report names them all
_TELL_MOST_S = 0.25
_FIRST_LEASE_S = 60.0  # for what was found on disk, until the controller says more

_log = logging.getLogger(__name__)


class NodeAgent:
    """Implements ``orders.Agent``; runs as a Ray actor, or within a test's own loop."""

    def __init__(self, config: AgentConfig, address: str = "127.0.0.1") -> None:
        self._config = config
        self._address = address
        self._attempts: dict[str, Attempt] = {}
        self._deadlines: dict[str, float] = {}
        self._limits: dict[str, RunLimit] = {}
        self._version = 0
        self._told_at = 0.0
        self._ports = Ports(config.place, config.node_count)
        self._change = asyncio.Event()
        self._ready = asyncio.Lock()
        self._disposal = Disposal()
        self._tools: NodeTools | None = None
        self._watch: asyncio.Task[None] | None = None

    async def describe(self) -> EnrolNode:
        tools = await self._open()
        inventory = Inventory(self._config.site_folder / "devices.json")
        node = await inventory.describe(self._config, self._address, list(tools.devices.values()))
        return node.model_copy(update={"engines": list(tools.environments.warm())})

    async def free_ports(self, count: int) -> list[int]:
        return self._ports.take(count)

    async def start(self, order: GangOrder, lease_left_s: float) -> None:
        tools = await self._open()
        assignment = order.assignment
        await self._disposal.remove(assignment.attempt)
        known = self._attempts.get(assignment.attempt)
        if known is not None and known.status.fence >= assignment.fence:
            return
        if known is not None:
            known.stop("gone", 0.0)
            await known.ended()
        record = AttemptRecord(
            status=AttemptStatus(
                attempt=assignment.attempt,
                fence=assignment.fence,
                stage=Stage.PREPARING,
                phase=said("preparing"),
            ),
            output_path=assignment.spec.output,
            node_rank=order.place.node_rank,
        )
        attempt = Attempt(record, tools, self._changed)
        self._attempts[assignment.attempt] = attempt
        self._deadlines[assignment.attempt] = time.monotonic() + lease_left_s
        if assignment.limit is not None:
            self._limits[assignment.attempt] = assignment.limit
        attempt.begin(order)

    async def stop(self, attempt: str, why: StopReason, grace_s: float) -> None:
        await self._open()
        if attempt in self._attempts:
            self._attempts[attempt].stop(why, grace_s)

    async def tune(self, attempt: str, orders: tuple[Order, ...]) -> None:
        await self._open()
        if attempt in self._attempts:
            self._attempts[attempt].tune(orders)

    async def say(self, attempt: str, line: str) -> None:
        await self._open()
        if attempt in self._attempts:
            self._attempts[attempt].say(line)

    async def renew(self, leases: dict[str, float], limits: dict[str, RunLimit]) -> None:
        now = time.monotonic()
        self._limits |= {name: limit for name, limit in limits.items() if name in self._attempts}
        for attempt, left_s in leases.items():
            if attempt in self._deadlines:
                self._deadlines[attempt] = now + left_s

    async def status(self, after: int, wait_s: float) -> AgentReport:
        tools = await self._open()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while self._version == after:
                    await self._change.wait()
                await asyncio.sleep(self._told_at + self._tell_every_s - time.monotonic())
        self._told_at = time.monotonic()
        return AgentReport(
            version=self._version,
            attempts=tuple(attempt.status for attempt in self._attempts.values()),
            engines=tools.environments.warm(),
        )

    async def forget(self, attempt: str) -> None:
        known = self._attempts.get(attempt)
        if known is None or known.status.stage is not Stage.ENDED:
            return
        del self._attempts[attempt]
        self._deadlines.pop(attempt, None)
        self._limits.pop(attempt, None)
        self._dispose_of(known.record)

    async def _open(self) -> NodeTools:
        """Make the tools and take over what is on disk, once."""
        async with self._ready:
            if self._tools is None:
                self._tools = await self._make_tools()
                self._watch = asyncio.create_task(self._watch_time())
                self._tidying = asyncio.create_task(self._tidy())
                for record in load_records(self._tools.attempts):
                    await self._take_over(record, self._tools)
                self._changed()
            return self._tools

    async def _make_tools(self) -> NodeTools:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr)
        logging.getLogger("httpx").setLevel(logging.WARNING)
        config = self._config
        found = await asyncio.to_thread(node_devices, config)
        attempts = config.site_folder / "attempts"
        attempts.mkdir(parents=True, exist_ok=True, mode=0o700)
        projects = ProjectCache(config.site_folder / "snapshots")
        fetch = near_fetch(config.home)
        data = DataCache(config.site_folder / "data", config.name, fetch=fetch)
        for cache in (projects, data):
            await asyncio.to_thread(cache.clean)
        client = SiteClient(config.server_url, config.site_token)
        return NodeTools(
            attempts=attempts,
            client=client,
            courier=Courier(client),
            environments=EnvironmentBuilder(
                config.cache, gpu=any(device.kind == "gpu" for device in found)
            ),
            projects=projects,
            data=data,
            sandbox=Sandbox(enabled=config.sandbox, hidden=config.hidden),
            devices={device.index: device for device in found},
            name=config.name,
            runtime=await asyncio.to_thread(runtime_folder, config.site_folder / "runtime"),
        )

    async def _take_over(self, record: AttemptRecord, tools: NodeTools) -> None:
        if record.kept_until is not None and record.status.stage is Stage.ENDED:
            self._dispose_of(record)
            return
        attempt = Attempt(record, tools, self._changed)
        self._attempts[record.status.attempt] = attempt
        self._deadlines[record.status.attempt] = time.monotonic() + _FIRST_LEASE_S
        if record.status.stage is not Stage.ENDED:
            attempt.resume()

    async def _watch_time(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            self._hold_to_limits()
            now = time.monotonic()
            for name, deadline in list(self._deadlines.items()):
                attempt = self._attempts[name]
                if now > deadline and attempt.status.stage is not Stage.ENDED:
                    _log.warning("attempt %s: its lease ran out here", name)
                    self._deadlines[name] = now + _FIRST_LEASE_S
                    attempt.stop("gone", 0.0)

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            try:
                await self._disposal.work(busy=self._busy)
            except OSError:
                _log.exception("an attempt's folders cannot be removed: tried again")

    def _hold_to_limits(self) -> None:
        """Ask those to end that reach their user's cap before the next look."""
        for name, limit in self._limits.items():
            status = self._attempts[name].status
            soon_ms = status.ran_ms + _WATCH_S * 1000
            if status.stage is Stage.RUNNING and soon_ms > limit.stop_after_ms:
                self._attempts[name].stop("capped", limit.grace_s)

    @property
    def _busy(self) -> bool:
        return any(known.stage is not Stage.ENDED for known in self._attempts.values())

    @property
    def _tell_every_s(self) -> float:
        live = sum(known.stage is not Stage.ENDED for known in self._attempts.values())
        return min(_TELL_EVERY_S + _TELL_EACH_S * live, _TELL_MOST_S)

    def _dispose_of(self, record: AttemptRecord) -> None:
        assert self._tools is not None
        folders = folders_of(self._tools.attempts, record)
        self._disposal.add(record.status.attempt, folders, keep_until=record.kept_until)

    def _changed(self) -> None:
        """The report is another one."""
        self._version += 1
        self._change.set()
        self._change = asyncio.Event()
