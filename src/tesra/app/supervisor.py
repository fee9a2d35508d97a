"""The processes of a home: recorded when they start, and stopped by that record alone.

A record names a process by pid and start mark, so that a pid which the system has given to
somebody else since is never signalled.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from tesra.db.private_files import write_private
from tesra.kit.errors import Conflict

POLL_S = 0.05
KILL_WAIT_S = 5.0
FAMILY_GRACE_S = 2.0
LOG_LIMIT_BYTES = 50 * 2**20  # a log this long is set aside at the next start
START_LINE = "--- started"  # begins what one process has to say in a log
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class HomeBusy(Conflict):
    """Another command is starting or stopping this network right now."""


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """One process; ``started`` is its start mark, ``ending`` says that it has been told to end."""

    name: str
    pid: int
    started: str
    ending: bool = False


def start_mark(pid: int) -> str | None:
    """What tells this process from any other that ever has this pid; None when it has ended.

    A zombie has ended: only its parent has not asked yet.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None if _BOOT_ID.exists() else _portable_start_mark(pid)
    fields = stat.rpartition(b")")[2].split()
    if fields[0] in {b"Z", b"X"}:
        return None
    return f"{_BOOT_ID.read_text().strip()}:{int(fields[19])}"


def _portable_start_mark(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.NoSuchProcess:
        return None


def alive(record: ProcessRecord) -> bool:
    """Whether the very process of the record runs; reaps it when it was our child."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(record.pid, os.WNOHANG)
    return start_mark(record.pid) == record.started


class ProcessTable:
    """``processes.json``: what runs for this home. Each change is on disk when the call returns."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, ProcessRecord]:
        try:
            rows = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return {row["name"]: ProcessRecord(**row) for row in rows}

    def running(self) -> dict[str, ProcessRecord]:
        """Those that are alive now."""
        return {name: record for name, record in self.read().items() if alive(record)}

    def put(self, record: ProcessRecord) -> None:
        self._write({**self.read(), record.name: record})

    def remove(self, name: str) -> None:
        self._write({key: record for key, record in self.read().items() if key != name})

    def _write(self, records: Mapping[str, ProcessRecord]) -> None:
        write_private(
            self._path, json.dumps([asdict(r) for r in records.values()], indent=2) + "\n"
        )


@contextlib.contextmanager
def exclusive(path: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the home's lock: one command at a time starts or stops its processes."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(descriptor, time.monotonic() + wait_s)
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether some command is starting or stopping processes right now."""
    try:
        with exclusive(path):
            return False
    except HomeBusy:
        return True


def _lock(descriptor: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise HomeBusy(way_out="Wait until it is done, then try again.") from error
            time.sleep(POLL_S)
        else:
            return


def spawn(
    name: str, command: Sequence[str], log: Path, environ: Mapping[str, str]
) -> ProcessRecord:
    """Start a process in a session of its own, so that a closed terminal does not end it."""
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(
            descriptor, f"{START_LINE} {datetime.now(UTC).isoformat(timespec='seconds')}\n".encode()
        )
        process = subprocess.Popen(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
        )
    finally:
        os.close(descriptor)
    # The record identifies the process from here on; Popen must not warn that it still runs.
    process.returncode = 0
    return ProcessRecord(name, process.pid, start_mark(process.pid) or "ended")


def stop(record: ProcessRecord, grace_s: float) -> None:
    """End the process and whatever it has started: SIGTERM, the grace, then SIGKILL."""
    family = _descendants(record) if alive(record) else []
    _send([record], signal.SIGTERM)
    if not wait_ended([record], grace_s):
        family += _descendants(record)
        _send([record], signal.SIGKILL)
        wait_ended([record], KILL_WAIT_S)
    if not wait_ended(family, FAMILY_GRACE_S):
        _send(family, signal.SIGKILL)
        wait_ended(family, KILL_WAIT_S)


def wait_ended(records: Sequence[ProcessRecord], timeout_s: float) -> bool:
    """Whether all have ended before the time is up."""
    deadline = time.monotonic() + timeout_s
    while any(alive(record) for record in records):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True


def _descendants(record: ProcessRecord) -> list[ProcessRecord]:
    try:
        children = psutil.Process(record.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    marked = [(child.pid, start_mark(child.pid)) for child in children]
    return [ProcessRecord("child", pid, mark) for pid, mark in marked if mark]


def _send(records: Sequence[ProcessRecord], number: signal.Signals) -> None:
    for record in records:
        if alive(record):
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, number)
