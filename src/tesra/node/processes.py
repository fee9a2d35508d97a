"""A process is its pid and its start time: a pid alone may already be another's."""

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

import psutil


def started_at(pid: int) -> float | None:
    """When this process started, in seconds since the epoch; ``None`` if there is none."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


def alive(pid: int, started: float) -> bool:
    """Whether that very process still runs; a zombie does not, nor does another with its pid."""
    try:
        process = psutil.Process(pid)
        return _same(process, started) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def descendants(pid: int) -> list[psutil.Process]:
    """All children of a process and theirs, as they are now."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def first_child(pid: int) -> int:
    """The oldest child of a process; asked of the kernel, not of every process of the machine."""
    try:
        named = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:  # a kernel that does not tell
        named = []
    return int(named[0]) if named else psutil.Process(pid).children()[0].pid


def signal_all(processes: Iterable[psutil.Process], number: int) -> None:
    """Send a signal to each that is still the same process; those that are gone are no error."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def kill_tree(pid: int, started: float) -> None:
    """SIGKILL the process and everything below it, if it is still that very process.

    Everything is stopped before anything is killed, so that no child slips away by forking.
    """
    if not alive(pid, started):
        return
    known: dict[int, psutil.Process] = {pid: psutil.Process(pid)}
    for _ in range(_SWEEPS):
        signal_all(known.values(), signal.SIGSTOP)
        found = {child.pid: child for child in descendants(pid)}
        if found.keys() <= known.keys():
            break
        known |= found
    signal_all(known.values(), signal.SIGKILL)


def kill_group(group: int) -> None:
    """SIGKILL a process group; one that is gone is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


_SWEEPS = 10  # a fork bomb could outrun us for ever
_SAME_START_S = 0.02  # create_time has the kernel's tick (10 ms) as its grain


def _same(process: psutil.Process, started: float) -> bool:
    return abs(process.create_time() - started) <= _SAME_START_S
