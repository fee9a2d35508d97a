"""One Ray cluster per site: membership, one agent actor per node, reservations of gangs.

Ray is started once with the site, never for a run. It reserves devices as a resource of each node
(``tesra-<node id>``); which index a rank gets is the server's choice. Agents are detached actors:
they and their gangs outlive the controller.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

from tesra.node.agent import NodeAgent
from tesra.node.orders import (
    Agent,
    AgentConfig,
    AgentLost,
    AgentReport,
    DevicesTaken,
    GangOrder,
    StopReason,
)
from tesra.node.ray_processes import (
    RayCore,
    RayUnavailable,
    load_core,
    refresh_core,
    start_head,
    stop_core,
)
from tesra.wire.site import EnrolNode

NAMESPACE = "tesra"
_CALL_S = 15.0
_DESCRIBE_S = 180.0  # measures each GPU at the first time
_FORGET_S = 120.0  # it deletes what may be large
_RESERVE_S = 10.0

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


class RayCluster:
    """Implements ``orders.Cluster`` for a site of one machine with ``device_count`` devices."""

    def __init__(self, folder: Path, config: AgentConfig, device_count: int) -> None:
        self._folder = folder
        self._config = config
        self._device_count = device_count
        self._core: RayCore | None = None
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Connect to the site's cluster; start it when there is none that lives."""
        async with self._lock:
            await self._start()

    async def stop(self) -> None:
        """End the cluster and everything that belongs to it, and nothing else."""
        async with self._lock:
            await asyncio.to_thread(_disconnect)
            await asyncio.to_thread(stop_core, self._folder)
            self._core = None

    async def agents(self) -> dict[str, Agent]:
        return {self._config.node: await self._agent()}

    async def revive(self, node: str) -> Agent:
        async with self._lock:
            try:
                if not self._lives():
                    await self._start()
                await asyncio.to_thread(_end_actor, node)
                return await self._agent()
            except (RayError, RayUnavailable, ValueError) as error:
                raise AgentLost(f"Node {node} has no agent: {error}") from error

    async def reserve(self, attempt: str, devices: dict[str, int]) -> None:
        await _in_time(_reserve, attempt, devices)

    async def release(self, attempt: str) -> None:
        await _in_time(_release, attempt)

    async def reserved(self) -> list[str]:
        return await _in_time(_reserved)

    async def _agent(self) -> Agent:
        """The node's agent, made if there is none; and a record of all processes it brought along."""
        agent = RayAgent(await asyncio.to_thread(_get_or_create, self._agent_config()), self._lives)
        await agent.status(-1, 0.0)
        if self._core is not None:
            self._core = await asyncio.to_thread(refresh_core, self._folder, self._core)
        return agent

    def _lives(self) -> bool:
        return self._core is not None and self._core.lives()

    async def _start(self) -> None:
        await asyncio.to_thread(_disconnect)
        core = await asyncio.to_thread(load_core, self._folder)
        if core is None or not core.lives():
            await asyncio.to_thread(stop_core, self._folder)
            node = self._config.node
            resources = {resource_of(node): float(self._device_count), agent_slot_of(node): 1.0}
            core = await asyncio.to_thread(start_head, self._folder, resources)
        await asyncio.to_thread(_connect, core)
        self._core = core

    def _agent_config(self) -> AgentConfig:
        temp = Path(self._core.temp) if self._core else self._folder
        return replace(self._config, hidden=(*self._config.hidden, temp))


class RayAgent:
    """Implements ``orders.Agent`` for one node; whatever Ray raises becomes ``AgentLost``.

    An agent whose Ray has lost its head still answers, but a minute later Ray ends all that is
    left, this process too: so its ``status`` counts as lost at once.
    """

    def __init__(self, handle: Any, ray_lives: Callable[[], bool]) -> None:
        self._handle = handle
        self._ray_lives = ray_lives

    async def describe(self) -> EnrolNode:
        node: EnrolNode = await self._ask(_DESCRIBE_S, "describe")
        return node

    async def free_ports(self, count: int) -> list[int]:
        ports: list[int] = await self._ask(_CALL_S, "free_ports", count)
        return ports

    async def start(self, order: GangOrder, lease_left_s: float) -> None:
        await self._ask(_CALL_S, "start", order, lease_left_s)

    async def stop(self, attempt: str, why: StopReason, grace_s: float) -> None:
        await self._ask(_CALL_S, "stop", attempt, why, grace_s)

    async def renew(self, leases: dict[str, float]) -> None:
        await self._ask(_CALL_S, "renew", leases)

    async def status(self, after: int, wait_s: float) -> AgentReport:
        if not self._ray_lives():
            raise AgentLost("A process that Ray cannot do without has ended.")
        report: AgentReport = await self._ask(wait_s + _CALL_S, "status", after, wait_s)
        return report

    async def forget(self, attempt: str) -> None:
        await self._ask(_FORGET_S, "forget", attempt)

    async def _ask(self, wait_s: float, verb: str, *arguments: object) -> Any:
        try:
            answer = getattr(self._handle, verb).remote(*arguments)
        except Exception as error:
            raise AgentLost(f"The node's agent is gone: {error}") from error
        try:
            return await asyncio.wait_for(answer, wait_s)
        except (RayError, TimeoutError) as error:
            raise AgentLost(f"The node's agent does not answer: {type(error).__name__}.") from error


def resource_of(node: str) -> str:
    """The name of a node's devices among Ray's resources: it pins a bundle to that node."""
    return f"tesra-{node}"


def agent_slot_of(node: str) -> str:
    """The resource that holds a node's agent on that node, one at a time."""
    return f"tesra-agent-{node}"


async def _in_time(work: Callable[..., Result], *arguments: object) -> Result:
    """A question to Ray's head, which waits for a minute when there is none any more."""
    try:
        return await asyncio.wait_for(asyncio.to_thread(work, *arguments), _CALL_S)
    except (RayError, TimeoutError) as error:
        raise AgentLost(f"Ray's head does not answer: {type(error).__name__}.") from error


def _connect(core: RayCore) -> None:
    """The variables of ``driver_environ`` must have been set before Ray was imported."""
    try:
        ray.init(
            address=core.address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False
        )
    except ConnectionError as error:
        raise RayUnavailable(f"No connection to the site's Ray: {error}") from error


def _disconnect() -> None:
    if ray.is_initialized():
        ray.shutdown()


def _get_or_create(config: AgentConfig) -> Any:
    name = f"agent-{config.node}"
    actor = ray.remote(NodeAgent).options(
        name=name,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        resources={agent_slot_of(config.node): 1.0},
        max_concurrency=1000,
        max_restarts=0,
    )
    return actor.remote(config)


def _end_actor(node: str) -> None:
    """Kill a node's actor, if there is one, and wait until its name is free."""
    try:
        ray.kill(ray.get_actor(f"agent-{node}"))
    except ValueError:
        return


def _reserve(attempt: str, devices: dict[str, int]) -> None:
    if attempt in _reserved():
        return
    bundles = [{resource_of(node): float(count)} for node, count in devices.items()]
    group = placement_group(bundles, strategy="PACK", name=attempt, lifetime="detached")
    if not _granted(group) and attempt in _reserved():
        remove_placement_group(group)
        raise DevicesTaken(f"The devices of {attempt} are not free in Ray.")


def _granted(group: PlacementGroup) -> bool:
    """Whether it was reserved in time; false also for one that was released meanwhile."""
    try:
        return bool(group.wait(_RESERVE_S))
    except Exception:  # noqa: BLE001 - Ray raises just that when the group is gone
        return False


def _release(attempt: str) -> None:
    for identity, group in placement_group_table().items():
        if group["name"] == attempt and group["state"] != "REMOVED":
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(identity))))


def _reserved() -> list[str]:
    return [
        str(group["name"])
        for group in placement_group_table().values()
        if group["state"] in ("CREATED", "PENDING", "RESCHEDULING")
    ]
