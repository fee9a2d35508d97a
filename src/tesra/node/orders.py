"""What a controller tells a node agent, and what the agent tells back.

Both directions carry plain values only, so that they cross process and machine unchanged. Orders
are idempotent per (attempt, fence); reports are snapshots of state, never events, so that a
missed one costs nothing.
"""

import math
import socket
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Literal, Protocol

from tesra.kit.errors import Conflict, Unavailable
from tesra.kit.saying import Said
from tesra.node.rank_plan import Place
from tesra.node.stalls import RankProgress
from tesra.node.tuning.model import Order, TuningReport
from tesra.wire.drive import SnapshotCommit
from tesra.wire.site import Assignment, Checkpoint, EnrolNode, RunLimit, WarmEngine

Outcome = Literal["succeeded", "failed", "stopped", "refused", "lost"]
StopReason = Literal["stopped", "capped", "lost", "gone"]


class AgentLost(Unavailable):
    """The agent of a node does not answer."""


class DevicesTaken(Conflict):
    """These devices are still reserved for another gang."""


class Stage(IntEnum):
    """How far an attempt is on one node; it only ever grows."""

    PREPARING = 1
    RUNNING = 2
    STORING = 3
    ENDED = 4


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What an agent must know to work; ``devices`` declares CPU slots (``None`` = find out).

    ``place`` of ``node_count`` nodes that share this machine, its devices and its ports.
    """

    node: str
    site_folder: Path
    cache: Path
    server_url: str
    site_token: str
    devices: int | None = None
    sandbox: bool = True
    hidden: tuple[Path, ...] = ()
    place: int = 0
    node_count: int = 1
    home: Path | None = None  # where the storage peers of this machine have their folders

    @property
    def name(self) -> str:
        """For people: the machine's name, and which of its nodes if it has several."""
        host = socket.gethostname()
        return host if self.node_count == 1 else f"{host}/{self.place + 1}"


@dataclass(frozen=True, slots=True)
class GangOrder:
    """This node's part of one attempt: ``indices`` are its devices in rank order."""

    assignment: Assignment
    place: Place
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How this node's part of an attempt ended, and when (seconds since the epoch).

    ``in_wake``: the rank that failed says itself that it lost another.
    """

    outcome: Outcome
    exit_code: int | None = None
    rank: int | None = None
    reason: Said | None = None
    at: float | None = None
    in_wake: bool = False


def by_cause(verdict: Verdict) -> tuple[bool, float]:
    """The order of ranks that failed: the cause before those that say they lost another."""
    return verdict.in_wake, verdict.at if verdict.at is not None else math.inf


@dataclass(frozen=True, slots=True)
class AttemptStatus:
    """One attempt on one node, now.

    ``started_at`` and ``ran_ms`` say since when and how long all of the node's ranks have run;
    the duration is monotonic and stops at the first rank's end. ``verdict`` comes with
    ``STORING``, the rest of the result with ``ENDED``. ``lock``: the packages of its environment.
    ``tuning``: what its ranks say of changes of parameters, from their start on.
    ``checkpoint``: the last one stored; ``resumed``: its script has read what it was to go on from.
    ``progress``: of each rank of a gang of two and more. ``settled``: its phase is worth telling,
    since it has lasted.
    """

    attempt: str
    fence: int
    stage: Stage
    phase: Said
    started_at: datetime | None = None
    ran_ms: int = 0
    verdict: Verdict | None = None
    warnings: tuple[str, ...] = ()
    output: SnapshotCommit | None = None
    lock: str | None = None
    tuning: TuningReport | None = None
    checkpoint: Checkpoint | None = None
    resumed: bool = False
    progress: tuple[RankProgress, ...] = ()
    settled: bool = True


@dataclass(frozen=True, slots=True)
class AgentReport:
    """All attempts that a node knows; ``version`` changes with every stage and phase.

    ``engines``: what is warm there.
    """

    version: int
    attempts: tuple[AttemptStatus, ...]
    engines: tuple[WarmEngine, ...] = ()


class Agent(Protocol):
    """One node as its controller sees it; each call raises ``AgentLost`` when nobody answers."""

    async def describe(self) -> EnrolNode: ...

    async def free_ports(self, count: int) -> list[int]:
        """Ports that nobody listens on there, for a gang to meet at."""
        ...

    async def start(self, order: GangOrder, lease_left_s: float) -> None:
        """Begin the attempt and return at once; a second time does nothing."""
        ...

    async def stop(self, attempt: str, why: StopReason, grace_s: float) -> None:
        """End the gang; with ``stopped`` its output is stored, with ``gone`` nothing is sent."""
        ...

    async def tune(self, attempt: str, orders: tuple[Order, ...]) -> None:
        """Tell the attempt's ranks of changes of parameters; what was told before is replaced."""
        ...

    async def say(self, attempt: str, line: str) -> None:
        """Write a line to the run's log, in Tesra's own voice."""
        ...

    async def renew(self, leases: dict[str, float], limits: dict[str, RunLimit]) -> None:
        """Seconds that each attempt may still run; the agent kills what is not renewed in time.

        ``limits``: where the user's cap is, for those that have one; the agent ends them there.
        """
        ...

    async def status(self, after: int, wait_s: float) -> AgentReport:
        """The report, as soon as its version differs from ``after`` or the time is over."""
        ...

    async def forget(self, attempt: str) -> None:
        """Remove what is left of an ended attempt."""
        ...


class Cluster(Protocol):
    """The machines of a site and the reservations on them."""

    async def agents(self) -> dict[str, Agent]:
        """The agent of each node by the node's id; starts those that are not there."""
        ...

    def died(self, node: str) -> bool:
        """Whether the node is surely gone while the rest of the site lives."""
        ...

    async def revive(self, node: str) -> Agent:
        """A live agent in place of one that was lost; raises ``AgentLost`` when it can't be had."""
        ...

    async def reserve(self, attempt: str, devices: dict[str, int]) -> None:
        """All or nothing; raises ``DevicesTaken``. A second time does nothing."""
        ...

    async def release(self, attempt: str) -> None: ...

    async def reserved(self) -> list[str]:
        """The attempts that hold a reservation."""
        ...
