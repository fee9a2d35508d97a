"""How a gang uses its devices, every five seconds: a GPU as its driver says, a CPU slot by its rank.

A slot's use is the CPU time of its rank's processes over the slot's threads, its memory what they
hold (shared pages divided among those who share them), its power the machine's (RAPL, where it may
be read) by the slot's part of all CPU time. What can't be known is left out; nothing here raises.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pynvml

from tesra.node.devices import FoundDevice
from tesra.node.metrics.points import Fact, Sample
from tesra.node.processes import descendants

EVERY_S = 5.0
FIRST_AFTER_S = 1.0
_POWERCAP = Path("/sys/class/powercap")
_PSS_LIMIT_BYTES = 4 * 2**30  # summing up the pages of more than this would slow the script
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class UsedDevice:
    """A device that a gang has, by the id that the server knows it by; ``rank`` works on it."""

    id: str
    rank: int
    found: FoundDevice


class DeviceUse:
    """A source of samples (``collector.Source``).

    ``pid``: asked for the gang's outermost process. ``pids``: the ranks' processes as the scripts
    see them. A single process has all devices: ``rank`` is 0 for each.
    """

    def __init__(
        self,
        devices: Sequence[UsedDevice],
        *,
        pid: Callable[[], int | None],
        pids: Mapping[int, int],
    ) -> None:
        self._gpus = [device for device in devices if device.found.kind == "gpu"]
        self._slots = [device for device in devices if device.found.kind == "cpu"]
        self._pid = pid
        self._pids = pids
        self._next = time.monotonic() + FIRST_AFTER_S
        self._used_s: dict[int, float] = {}
        self._measured_at: float | None = None
        self._energy = Energy()
        self.left = False

    def read(self, now: float, last: bool) -> Iterator[Fact]:
        if last or time.monotonic() < self._next:
            return
        pid = self._pid()
        if pid is None:
            return
        self._next = time.monotonic() + (EVERY_S if self._measured_at or self._gpus else 0.0)
        yield from _gpu_samples(self._gpus, now)
        if self._slots:
            yield from self._slot_samples(pid, now)

    def position(self) -> Any:
        return {}

    def go_on(self, position: Any) -> None:
        del position  # nothing of it outlives the gang

    def _slot_samples(self, pid: int, now: float) -> Iterator[Sample]:
        groups = by_rank(descendants(pid), self._pids)
        at, power_w = time.monotonic(), self._energy.power_w()
        used_s = {rank: sum(map(cpu_s, processes)) for rank, processes in groups.items()}
        before_s, self._used_s = self._used_s, used_s
        since, self._measured_at = self._measured_at, at
        if since is None:
            self._next = at + FIRST_AFTER_S
            return
        sharing = {
            rank: sum(slot.rank == rank for slot in self._slots)
            for rank in {slot.rank for slot in self._slots}
        }
        memory = {rank: memory_bytes(groups.get(rank, ())) for rank in sharing}
        for slot in self._slots:
            new_s = max(0.0, used_s.get(slot.rank, 0.0) - before_s.get(slot.rank, 0.0))
            cores = new_s / (at - since) / sharing[slot.rank]
            values: dict[str, float | int] = {
                "use": round(min(1.0, cores / max(1, slot.found.threads)), 4),
                "memory_bytes": memory[slot.rank] // sharing[slot.rank],
            }
            if power_w is not None:
                values["power_w"] = round(power_w * min(1.0, cores / (os.cpu_count() or 1)), 2)
            yield Sample(slot.id, now, values)


class Energy:
    """The machine's CPU packages, by the kernel's energy counters."""

    def __init__(self, folder: Path = _POWERCAP) -> None:
        self._folder = folder
        self._before: tuple[float, dict[str, int]] | None = None

    def power_w(self) -> float | None:
        """Mean power since the last call; ``None`` at the first, and where it can't be read."""
        now = time.monotonic()
        counters = self._counters()
        before, self._before = self._before, (now, counters)
        if before is None or not counters or now <= before[0]:
            return None
        grown = [value - before[1].get(name, value) for name, value in counters.items()]
        if min(grown) < 0:  # a counter began anew
            return None
        return sum(grown) / 1e6 / (now - before[0])

    def _counters(self) -> dict[str, int]:
        found = {}
        for package in self._folder.glob("intel-rapl:*"):
            if package.name.count(":") == 1:  # deeper ones are parts of these
                with contextlib.suppress(OSError, ValueError):
                    found[package.name] = int((package / "energy_uj").read_text())
        return found


def by_rank(
    processes: Sequence[psutil.Process], pids: Mapping[int, int]
) -> dict[int, list[psutil.Process]]:
    """Each rank's process and all below it; ``pids``: by the pid that it has for itself."""
    rank_of: dict[int, int] = {}
    groups: dict[int, list[psutil.Process]] = {}
    for process in processes:  # parents come before their children
        rank = pids.get(_own_pid(process.pid), -1)
        if rank < 0:
            with contextlib.suppress(psutil.Error):
                rank = rank_of.get(process.ppid(), -1)
        if rank >= 0:
            rank_of[process.pid] = rank
            groups.setdefault(rank, []).append(process)
    return groups


def gpu_uses(uuids: Sequence[str]) -> dict[str, float]:
    """How much each of these is in use now, 0 to 1; those that can't be asked are left out."""
    found: dict[str, float] = {}
    if not uuids:
        return found
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return found
    try:
        for uuid in uuids:
            values = _gpu_values(uuid)
            if "use" in values:
                found[uuid] = values["use"]
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    return found


def memory_bytes(processes: Sequence[psutil.Process]) -> int:
    """What they hold together: exact for a few GiB, else shared pages are counted once."""
    sizes = [_resident(process.pid) for process in processes]
    private = sum(resident - shared for resident, shared in sizes)
    shared = max((shared for _resident, shared in sizes), default=0)
    if sum(resident for resident, _shared in sizes) > _PSS_LIMIT_BYTES:
        return private + shared
    parts = [_pss(process.pid) for process in processes]
    return sum(parts) if all(parts) else private + shared


def _gpu_samples(gpus: Sequence[UsedDevice], now: float) -> Iterator[Sample]:
    if not gpus:
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return
    try:
        for gpu in gpus:
            values = _gpu_values(gpu.found.uuid)
            if values:
                yield Sample(gpu.id, now, values)
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _gpu_values(uuid: str) -> dict[str, float | int]:
    values: dict[str, float | int] = {}
    with contextlib.suppress(pynvml.NVMLError):
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        with contextlib.suppress(pynvml.NVMLError):
            values["use"] = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
        with contextlib.suppress(pynvml.NVMLError):
            values["memory_bytes"] = int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
        with contextlib.suppress(pynvml.NVMLError):
            values["power_w"] = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000
    return values


def _own_pid(pid: int) -> int:
    """The pid that a process has in its innermost namespace."""
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    return pid


def cpu_s(process: psutil.Process) -> float:
    """Of the process and of its children that have ended."""
    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0


def _resident(pid: int) -> tuple[int, int]:
    numbers = _read(f"/proc/{pid}/statm").split()
    if len(numbers) < 3:
        return 0, 0
    return int(numbers[1]) * _PAGE, int(numbers[2]) * _PAGE


def _pss(pid: int) -> int:
    """0 where it may not be read."""
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
