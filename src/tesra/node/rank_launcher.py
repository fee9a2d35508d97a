"""Runs inside the sandbox as its first program; standard library only, nothing of Tesra.

It starts every rank of a node and tells how each ended; when its socket closes (the agent is
gone, or has finished) it ends everything below itself and leaves. Started as
``python -I -S rank_launcher.py FD``; FD is a socket that brings the plan as one line of JSON
and takes one line of JSON for each event: ``started``, ``refused``, ``ended``. Helpers have names
in place of ranks' numbers, and take no notice of SIGTERM: ranks may need them while they save.
"""

import json
import os
import resource
import select
import signal
import sys
from contextlib import suppress
from typing import Any

PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Start the ranks, then serve two events: a child ended, the socket closed."""
    link = int(sys.argv[1])
    os.set_inheritable(link, False)
    plan = json.loads(_read_line(link))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if plan["adopt"]:
        _adopt_orphans()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _ignore)  # a handler, not SIG_IGN, which the ranks would inherit
    ranks: dict[int, int | str] = {}
    processes = [*plan["helpers"], *plan["ranks"]]
    for process in processes:
        os.set_inheritable(process["log"], False)  # each gets its own log only
    for process in processes:
        if not _start(process, ranks, link):
            break
    _serve(link, woken, ranks)
    _end_children()


def _start(rank: dict[str, Any], ranks: dict[int, int | str], link: int) -> bool:
    blocked = [signal.SIGTERM] if isinstance(rank["rank"], str) else []
    try:
        program = _find(rank["argv"][0], rank["environ"].get("PATH", os.defpath))
        pid = os.posix_spawn(
            program,
            rank["argv"],
            rank["environ"],
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, rank["log"], 1),
                (os.POSIX_SPAWN_DUP2, rank["log"], 2),
            ],
            setsid=True,  # as under torchrun: where the kernel shares out by session, a share for each
            setsigmask=blocked,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
    except OSError as error:
        _tell(link, event="refused", rank=rank["rank"], why=error.strerror)
        return False
    finally:
        os.close(rank["log"])
    ranks[pid] = rank["rank"]
    _tell(link, event="started", rank=rank["rank"], pid=pid)
    return True


def _find(program: str, path: str) -> str:
    if "/" in program:
        return program
    for folder in path.split(os.pathsep):
        candidate = f"{folder}/{program}"
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):  # noqa: PTH112 - pathlib is slow to import
            return candidate
    raise FileNotFoundError(2, os.strerror(2), program)


def _serve(link: int, woken: int, ranks: dict[int, int | str]) -> None:
    waiting = select.poll()
    waiting.register(link, select.POLLIN)
    waiting.register(woken, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _event in waiting.poll()}
        if woken in ready:
            os.read(woken, 4096)
        _reap(link, ranks)
        if link in ready and not os.read(link, 4096):
            return


def _reap(link: int, ranks: dict[int, int | str]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid in ranks:
            code = os.waitstatus_to_exitcode(status)
            _tell(link, event="ended", rank=ranks.pop(pid), code=code)


def _end_children() -> None:
    """Each killed child leaves its own to us (or to the namespace's first process): until none is left."""
    own = f"/proc/self/task/{os.getpid()}/children"
    while True:
        with open(own) as children:  # noqa: PTH123 - pathlib is slow to import
            pids = [int(pid) for pid in children.read().split()]
        if not pids:
            return
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)


def _adopt_orphans() -> None:
    """Without a PID namespace: children that outlive their parents come back to this process."""
    import ctypes  # slow, and needed only here

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _read_line(link: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(link, 1 << 20)
        if not part:
            sys.exit(1)
        line += part
    return line


def _tell(link: int, **event: object) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # nobody listens: the next read tells so
        os.write(link, json.dumps(event).encode() + b"\n")


def _ignore(_number: int, _frame: object) -> None:
    pass


if __name__ == "__main__":
    main()
