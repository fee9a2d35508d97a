"""One Ray cluster per site: membership, one agent actor per node, reservations of gangs.

Ray is started once with the site, never for a run. It reserves devices as a resource of each node
(``tesra-<node id>-<mark>``); which index a rank gets is the server's choice. Agents are detached
actors: they and their gangs outlive the controller. The mark is new at each start of a node, since
Ray needs some time to believe that a node is dead, and would still place things there.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError
from ray.util import get_node_ip_address
from ray.util.placement_group import (
    PlacementGroup,
    get_placement_group,
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
    Starting,
    await_address,
    begin_head,
    begin_node,
    finish_start,
    load_core,
    refresh_core,
    stop_core,
)
from tesra.node.tuning.model import Order
from tesra.wire.site import EnrolNode, RunLimit

NAMESPACE = "tesra"
_CALL_S = 15.0
_BIRTH_S = 90.0  # of an agent's process on a busy machine
_REBIRTH_S = 30.0  # others wait to hear whether its node is lost
_DESCRIBE_S = 180.0  # measures each GPU at the first time
_FORGET_S = 120.0  # it deletes what may be large
_RESERVE_S = 10.0
_LOOK_EVERY_S = 0.5  # whether the node still lives, while its agent is asked

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NodePart:
    """One node of the site, and how many devices it has."""

    config: AgentConfig
    devices: int


class RayCluster:
    """Implements ``orders.Cluster`` for a site of one machine; the first of its nodes is the head."""

    def __init__(self, folder: Path, parts: Sequence[NodePart]) -> None:
        self._folder = folder
        self._head = parts[0].config.node
        self._parts = {part.config.node: part for part in parts}
        self._cores: dict[str, RayCore] = {}
        self._lock = asyncio.Lock()
        self._groups: dict[str, PlacementGroup] = {}  # what this process has reserved
        self._unsure: set[str] = set()  # attempts that Ray may know more of than this process
        self._listed = False  # whether what was there before this process is among them

    async def start(self) -> None:
        """Connect to the site's cluster; start it, or the nodes of it that do not live."""
        async with self._lock:
            await self._start()

    async def stop(self) -> None:
        """End the cluster and everything that belongs to it, and nothing else."""
        async with self._lock:
            await asyncio.to_thread(_disconnect)
            await self._stop()

    async def agents(self) -> dict[str, Agent]:
        agents = await asyncio.gather(*(self._agent(node, _BIRTH_S) for node in self._parts))
        return dict(zip(self._parts, agents, strict=True))

    def died(self, node: str) -> bool:
        return self._up(self._head) and not self._up(node)

    async def revive(self, node: str) -> Agent:
        async with self._lock:
            try:
                if not self._lives(node):
                    await self._start()
                await asyncio.to_thread(_end_actor, self._name_of(node))
                return await self._agent(node, _REBIRTH_S)
            except (RayError, RayUnavailable, ValueError) as error:
                raise AgentLost(f"Node {node} has no agent: {error}") from error

    async def reserve(self, attempt: str, devices: dict[str, int]) -> None:
        if attempt in self._groups:
            return
        bundles = [
            {resource_of(node, self._mark(node)): float(count)} for node, count in devices.items()
        ]
        new = not self._may_know(attempt)
        self._unsure.add(attempt)  # until it has succeeded
        group = await _in_time(_reserve, attempt, bundles, new)
        if group is not None:
            self._groups[attempt] = group
            self._unsure.discard(attempt)

    async def release(self, attempt: str) -> None:
        group = self._groups.pop(attempt, None)
        if group is not None:
            self._unsure.add(attempt)
            await _in_time(remove_placement_group, group)
            self._unsure.discard(attempt)
        elif self._may_know(attempt):
            await _in_time(_release, attempt)

    async def reserved(self) -> list[str]:
        found = await _in_time(_reserved)
        self._unsure.update(found)
        self._listed = True
        return found

    def _may_know(self, attempt: str) -> bool:
        """Whether Ray may have a group of it that this process did not make: it must be asked."""
        return not self._listed or attempt in self._unsure

    async def _agent(self, node: str, within_s: float) -> Agent:
        """The node's agent, made if there is none; and a record of all processes it brought along."""
        slot = agent_slot_of(node, self._mark(node))
        config = self._agent_config(node)
        handle = await asyncio.to_thread(_get_or_create, self._name_of(node), slot, config)
        agent = RayAgent(handle, lambda: self._lives(node))
        await agent.born(within_s)
        if node in self._cores:
            core = await asyncio.to_thread(refresh_core, config.site_folder, self._cores[node])
            self._cores[node] = core
        return agent

    def _lives(self, node: str) -> bool:
        return self._up(self._head) and self._up(node)

    def _up(self, node: str) -> bool:
        return node in self._cores and self._cores[node].lives()

    async def _start(self) -> None:
        """The head, if it does not live, and with it all; else the further nodes that do not."""
        self._cores = await asyncio.to_thread(self._load)
        if not self._up(self._head):
            await asyncio.to_thread(_disconnect)
            await self._stop()
            self._groups.clear()  # they have ended with it
        missing = [node for node in self._parts if not self._up(node)]
        for node in missing:
            await asyncio.to_thread(stop_core, self._parts[node].config.site_folder)
        begun: list[Starting] = []
        try:
            if self._head in missing:
                head = begin_head(self._folder, *self._offer(self._head))
                begun.append(head)
                address = str(get_node_ip_address())  # type: ignore[no-untyped-call]  # Ray's
                core = await asyncio.to_thread(await_address, head, address)
            else:
                core = self._cores[self._head]
            for node in missing:
                if node != self._head:
                    folder = self._parts[node].config.site_folder
                    offer = self._offer(node)
                    begun.append(begin_node(folder, *offer, head=core, site=self._folder))
            cores = await asyncio.gather(
                *(asyncio.to_thread(finish_start, starting) for starting in begun)
            )
        except BaseException:
            for starting in begun:
                starting.starter.kill()
            raise
        self._cores |= dict(zip(missing, cores, strict=True))
        if not ray.is_initialized():
            await asyncio.to_thread(_connect, self._cores[self._head])

    async def _stop(self) -> None:
        further = [part.config.site_folder for part in self._parts.values()][1:]
        await asyncio.gather(*(asyncio.to_thread(stop_core, folder) for folder in further))
        await asyncio.to_thread(stop_core, self._folder)
        self._cores = {}

    def _load(self) -> dict[str, RayCore]:
        found = {node: load_core(part.config.site_folder) for node, part in self._parts.items()}
        return {node: core for node, core in found.items() if core is not None and core.mark}

    def _offer(self, node: str) -> tuple[str, dict[str, float]]:
        """A mark of this start, and what Ray is to know of the node's resources."""
        mark = secrets.token_hex(4)
        count = float(self._parts[node].devices)
        return mark, {resource_of(node, mark): count, agent_slot_of(node, mark): 1.0}

    def _mark(self, node: str) -> str:
        if node not in self._cores:
            raise AgentLost(f"Node {node} is not up.")
        return self._cores[node].mark

    def _name_of(self, node: str) -> str:
        return f"agent-{node}-{self._mark(node)}"

    def _agent_config(self, node: str) -> AgentConfig:
        config = self._parts[node].config
        temp = Path(self._cores[node].temp) if node in self._cores else self._folder
        return replace(config, hidden=(*config.hidden, temp))


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

    async def born(self, within_s: float) -> None:
        """Returns once the agent's process answers."""
        await self._ask(within_s, "status", -1, 0.0)

    async def free_ports(self, count: int) -> list[int]:
        ports: list[int] = await self._ask(_CALL_S, "free_ports", count)
        return ports

    async def start(self, order: GangOrder, lease_left_s: float) -> None:
        await self._ask(_CALL_S, "start", order, lease_left_s)

    async def stop(self, attempt: str, why: StopReason, grace_s: float) -> None:
        await self._ask(_CALL_S, "stop", attempt, why, grace_s)

    async def tune(self, attempt: str, orders: tuple[Order, ...]) -> None:
        await self._ask(_CALL_S, "tune", attempt, orders)

    async def say(self, attempt: str, line: str) -> None:
        await self._ask(_CALL_S, "say", attempt, line)

    async def renew(self, leases: dict[str, float], limits: dict[str, RunLimit]) -> None:
        await self._ask(_CALL_S, "renew", leases, limits)

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
        asking = asyncio.ensure_future(answer)
        until = time.monotonic() + wait_s
        try:
            while not asking.done():
                left_s = until - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError
                await asyncio.wait({asking}, timeout=min(left_s, _LOOK_EVERY_S))
                if not asking.done() and not self._ray_lives():
                    raise AgentLost("A process that Ray cannot do without has ended.")
            return asking.result()
        except (RayError, TimeoutError) as error:
            raise AgentLost(f"The node's agent does not answer: {type(error).__name__}.") from error
        finally:
            asking.cancel()


def resource_of(node: str, mark: str) -> str:
    """The name of a node's devices among Ray's resources: it pins a bundle to that node."""
    return f"tesra-{node}-{mark}"


def agent_slot_of(node: str, mark: str) -> str:
    """The resource that holds a node's agent on that node, one at a time."""
    return f"tesra-agent-{node}-{mark}"


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


def _get_or_create(name: str, slot: str, config: AgentConfig) -> Any:
    actor = ray.remote(NodeAgent).options(
        name=name,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        resources={slot: 1.0},
        max_concurrency=1000,
        max_restarts=0,
    )
    return actor.remote(config)


def _end_actor(name: str) -> None:
    """Kill a node's actor, if there is one, and wait until its name is free."""
    try:
        ray.kill(ray.get_actor(name))
    except ValueError:
        return


def _reserve(attempt: str, bundles: list[dict[str, float]], new: bool) -> PlacementGroup | None:
    """None when it was released meanwhile; ``new``: there is surely none yet."""
    known = None if new else _group_of(attempt)
    if known is not None:
        return known
    group: PlacementGroup = placement_group(
        bundles, strategy="PACK", name=attempt, lifetime="detached"
    )
    if _granted(group):
        return group
    if _group_of(attempt) is not None:
        remove_placement_group(group)
        raise DevicesTaken(f"The devices of {attempt} are not free in Ray.")
    return None


def _granted(group: PlacementGroup) -> bool:
    """Whether it was reserved in time; false also for one that was released meanwhile."""
    try:
        return bool(group.wait(_RESERVE_S))
    except Exception:  # noqa: BLE001 - Ray raises just that when the group is gone
        return False


def _release(attempt: str) -> None:
    group = _group_of(attempt)
    if group is not None:
        remove_placement_group(group)


def _group_of(attempt: str) -> PlacementGroup | None:
    """By its name: Ray's table also lists what was removed long ago, and grows with every run."""
    try:
        group: PlacementGroup = get_placement_group(attempt)
    except ValueError:
        return None
    return group


def _reserved() -> list[str]:
    return [
        str(group["name"])
        for group in placement_group_table().values()
        if group["state"] in ("CREATED", "PENDING", "RESCHEDULING")
    ]
