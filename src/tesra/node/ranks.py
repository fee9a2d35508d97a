"""(interface; body follows)"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tesra.kit.errors import Unavailable
from tesra.node.devices import FoundDevice
from tesra.node.environments import Environment
from tesra.node.sandbox import Sandbox
from tesra.node.workspace import AttemptFolders
from tesra.wire.site import RunSpec


class GangFailed(Unavailable):
    """The ranks could not be started on this node."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where this node stands in the gang. ``rank_start``: global rank of its first device."""

    rank_start: int
    world_size: int
    node_rank: int
    node_count: int
    master_addr: str
    master_port: int


@dataclass(frozen=True, slots=True)
class RankExit:
    """How a rank ended: ``exit_code`` is 128+n when signal n killed it, as a shell says it."""

    rank: int
    exit_code: int
    ended_at: float  # monotonic
    signal: int | None = None

    @property
    def words(self) -> str:
        raise NotImplementedError


class Gang:
    """The ranks of one run on this node, in one sandbox of their own.

    They share it (PID and IPC namespace, /dev/shm, /tmp) as ranks under torchrun share a machine:
    NCCL needs that to pass tensors between the GPUs of a node.
    """

    def __init__(
        self, run: str, spec: RunSpec, *, place: Place, devices: Sequence[FoundDevice],
        environment: Environment, folders: AttemptFolders, sandbox: Sandbox,
        runtime: Path | None = None,
    ) -> None:
        """``devices``: this node's part of the reservation, in rank order.

        ``runtime``: a folder to put on the script's path (holds ``tesra/``, the runtime).
        """

    @property
    def ranks(self) -> list[int]:
        """Global ranks that run here: one for each device, or just 0 with launch ``single``."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """The outermost process; with ``started`` its identity (``processes.alive/kill_tree``)."""
        raise NotImplementedError

    @property
    def started(self) -> float:
        raise NotImplementedError

    async def start(self) -> None:
        """Returns when every rank runs. Raises ``GangFailed``, or ``EntryMissing`` before any starts.

        Call it in the thread of a loop that lives as long as the gang: the sandbox dies with the
        *thread* that started it.
        """
        raise NotImplementedError

    async def wait(self) -> list[RankExit]:
        """Returns at the first rank that fails, or when all have ended; ordered by end."""
        raise NotImplementedError

    async def stop(self, grace_s: float) -> list[RankExit]:
        """SIGTERM to every process, then SIGKILL after the grace; returns when none is left.

        Always call it, also after ``wait``: it makes sure that nothing of the gang survives.
        """
        raise NotImplementedError
