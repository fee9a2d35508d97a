"""Watches whether each rank of a node makes progress: CPU, devices, files, log and metrics.

A look every two seconds, in a thread. What can't be read counts as no progress; nothing raises.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tesra.node.metrics.devices import UsedDevice, by_rank, cpu_s, gpu_uses
from tesra.node.processes import descendants
from tesra.node.ranks import Gang, GangFailed
from tesra.node.stalls import RankProgress, Wait
from tesra.node.workspace import AttemptFolders

EVERY_S = 2.0
_CORES = 0.05  # more is progress: below are the engines' own threads that look around
_BUSY_CORES = 0.7
_GPU_USE = 0.02
_BUSY_GPU = 0.7
_IO_BYTES = 1 << 16
_NETWORK = ("poll", "sock", "select", "unix_stream", "unix_dgram", "inet_", "tcp_", "skb_", "sk_w")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Look:
    """What a rank has used and written up to now; ``naps``: how often it has gone to wait."""

    cpu_s: float = 0.0
    io_bytes: int = 0
    written: tuple[int, ...] = ()
    gpu_use: float = 0.0
    naps: int = 0
    wait: Wait = "other"


@dataclass(slots=True)
class _Known:
    """When (monotonic) a rank last did each; ``look`` is the last one."""

    progressed: float
    wrote: float
    idled: float
    look: Look = field(default_factory=Look)
    wait: Wait = "other"

    def see(self, look: Look, now: float, past_s: float) -> None:
        before, self.look = self.look, look
        cores = (look.cpu_s - before.cpu_s) / past_s
        wrote = look.written != before.written
        io_bytes = look.io_bytes - before.io_bytes
        if wrote:
            self.wrote = now
        if wrote or abs(cores) > _CORES or look.gpu_use > _GPU_USE or io_bytes > _IO_BYTES:
            self.progressed = now
        if cores < _BUSY_CORES and look.gpu_use < _BUSY_GPU:
            self.idled = now
        polls = look.wait == "asleep" and look.naps != before.naps
        self.wait = "other" if polls else look.wait


class RankWatch:
    """One per gang and node; ``begin`` it when the ranks run, and ``close`` it."""

    def __init__(
        self,
        gang: Gang,
        folders: AttemptFolders,
        node: str,
        *,
        devices: Sequence[UsedDevice] = (),
        every_s: float = EVERY_S,
    ) -> None:
        self._gang = gang
        self._folders = folders
        self._node = node
        self._gpus = {
            rank: [one.found.uuid for one in devices if one.rank == rank and one.found.uuid]
            for rank in gang.ranks
        }
        self._every_s = every_s
        self._known: dict[int, _Known] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def report(self) -> tuple[RankProgress, ...]:
        """Each rank, now; none before the first look."""
        now = time.monotonic()
        ended = {known.rank: known.ended_at for known in self._gang.exits}
        return tuple(
            RankProgress(
                rank=rank,
                node=self._node,
                idle_s=now - ended.get(rank, known.progressed),
                silent_s=now - known.wrote,
                busy_s=now - known.idled,
                wait=known.wait,
                ended=rank in ended,
            )
            for rank, known in self._known.items()
        )

    def begin(self) -> None:
        now = time.monotonic()
        self._known = {rank: _Known(now, now, now) for rank in self._gang.ranks}
        self._task = asyncio.create_task(self._watch())

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        looked = time.monotonic()
        while True:
            await asyncio.sleep(self._every_s)
            try:
                looks = await asyncio.to_thread(self._look)
            except Exception:  # noqa: BLE001 - a worker's outer loop: the run goes on without it
                _log.exception("the progress of ranks can't be seen")
                self._known = {}
                return
            now = time.monotonic()
            for rank, look in looks.items():
                self._known[rank].see(look, now, now - looked)
            looked = now

    def _look(self) -> dict[int, Look]:
        try:
            groups = by_rank(descendants(self._gang.pid), self._gang.pids)
        except GangFailed:
            groups = {}
        uses = gpu_uses([uuid for uuids in self._gpus.values() for uuid in uuids])
        return {rank: self._look_at(rank, groups.get(rank, []), uses) for rank in self._gang.ranks}

    def _look_at(
        self, rank: int, processes: Sequence[psutil.Process], uses: Mapping[str, float]
    ) -> Look:
        files = (self._folders.log_of(rank), self._folders.metrics_of(rank))
        wait, naps = _wait_of(processes)
        return Look(
            cpu_s=sum(map(cpu_s, processes)),
            io_bytes=sum(map(_io_bytes, processes)),
            written=tuple(map(_size, files)),
            gpu_use=max((uses.get(uuid, 0.0) for uuid in self._gpus[rank]), default=0.0),
            naps=naps,
            wait=wait,
        )


def _wait_of(processes: Sequence[psutil.Process]) -> tuple[Wait, int]:
    """What a rank's first process that does not merely wait for a child is blocked in."""
    for process, place in _with_place(processes):
        with contextlib.suppress(psutil.Error, OSError):
            status = process.status()
            if status == psutil.STATUS_ZOMBIE or "do_wait" in place:
                continue
            return _kind(status, place), process.num_ctx_switches().voluntary
    return "other", 0


def _with_place(processes: Sequence[psutil.Process]) -> Iterator[tuple[psutil.Process, str]]:
    for process in processes:
        with contextlib.suppress(OSError):
            yield process, Path(f"/proc/{process.pid}/wchan").read_text(encoding="ascii")


def _kind(status: str, place: str) -> Wait:
    if status in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP):
        return "stopped"
    if status == psutil.STATUS_DISK_SLEEP:
        return "disk"
    if "nanosleep" in place:
        return "asleep"
    return "network" if any(word in place for word in _NETWORK) else "other"


def _io_bytes(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error, OSError):
        io = process.io_counters()
        return int(io.read_chars + io.write_chars + io.read_bytes + io.write_bytes)
    return 0


def _size(path: Path) -> int:
    """Of the file itself: a link that a script made is not followed."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0
