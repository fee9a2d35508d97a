"""Which process is the postmaster of a data folder, and how it is ended.

The folder is the identity: it is the process that ``postmaster.pid`` names *and* that works in
this very folder. A pid alone proves nothing after a crash or a power cut.
"""

import os
import select
import signal
from pathlib import Path

import psutil

from tesra.db.launcher import DatabaseUnavailable

QUIT_TIMEOUT_S = 10
START_TIME_SLACK_S = 10
STATUS_LINE = 7  # of postmaster.pid; line 0 is the pid, line 2 the start time


class Postmaster:
    """The server process of one data folder, if there is one."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def pid(self) -> int | None:
        """Its pid, or None if none works on this folder."""
        lines = self._pid_file()
        if not lines or not lines[0].isdigit():
            return None
        pid = int(lines[0])
        return pid if self._is_ours(pid, lines) else None

    def is_ready(self) -> bool:
        """Whether it lives and takes connections."""
        lines = self._pid_file()
        ready = len(lines) > STATUS_LINE and lines[STATUS_LINE].strip() == "ready"
        return ready and self.pid() is not None

    def end(self, timeout_s: float) -> None:
        """Fast shutdown, after ``timeout_s`` immediate shutdown; of this very process or none.

        The descriptor stays bound to the process, whatever becomes of its pid.
        """
        pid = self.pid()
        if pid is None:
            return
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if self.pid() != pid or _ends(process, timeout_s):
                return
        finally:
            os.close(process)
        raise DatabaseUnavailable(
            f"The embedded PostgreSQL (process {pid}) does not end.",
            way_out="See what it waits for, such as a disk that does not answer.",
        )

    def forget_recycled_pid(self) -> None:
        """Remove a ``postmaster.pid`` that names somebody else's process.

        PostgreSQL would take that process for a running server. Its own check of shared memory
        still keeps two servers from one data folder.
        """
        lines = self._pid_file()
        if lines and lines[0].isdigit() and psutil.pid_exists(int(lines[0])):
            (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _pid_file(self) -> list[str]:
        try:
            return (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []

    def _is_ours(self, pid: int, pid_file: list[str]) -> bool:
        try:
            if Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() != "postgres":
                return False
            there, here = Path(f"/proc/{pid}/cwd").stat(), self._data.stat()
        except PermissionError:
            # Root without the right to look into others' processes: the start time has to do.
            return os.geteuid() == 0 and _started_as_recorded(pid, pid_file)
        except (FileNotFoundError, ProcessLookupError):
            return False
        return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _ends(process: int, timeout_s: float) -> bool:
    """Ask nicely, then firmly; whether the process of this descriptor has ended."""
    for number, patience_s in ((signal.SIGINT, timeout_s), (signal.SIGQUIT, QUIT_TIMEOUT_S)):
        try:
            signal.pidfd_send_signal(process, number)
        except ProcessLookupError:
            return True
        if select.select([process], [], [], patience_s)[0]:
            return True
    return False


def _started_as_recorded(pid: int, pid_file: list[str]) -> bool:
    try:
        started = psutil.Process(pid).create_time()
        return abs(started - int(pid_file[2])) < START_TIME_SLACK_S
    except (psutil.Error, IndexError, ValueError):
        return False
