"""Runs inside the sandbox as its first program; standard library only, nothing of Tesra.

It starts every rank of a node and tells how each ended; when its socket closes (the agent is
gone, or has finished) it ends everything below itself and leaves. Started as
``python -I -S rank_launcher.py FD``; FD is a socket that brings the plan, its length before it,
and takes a line for each event: ``started RANK PID``, ``ended RANK CODE AT`` (monotonic),
``refused RANK WHY``.
Helpers have names in place of ranks' numbers, and take no notice of SIGTERM: ranks may need them
while they save. Every run waits for this program: it imports only what is built in or quick.
"""

import marshal
import os
import resource
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import Any
else:
    import _signal as signal  # without the enums, which take longer than all the rest

PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Start the ranks, then serve two events: a child ended, the socket closed."""
    link = int(sys.argv[1])
    os.set_inheritable(link, False)
    plan = marshal.loads(_read(link, int.from_bytes(_read(link, 4), "big")))  # noqa: S302 - the agent's, which is of the same Python
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
    os._exit(0)  # nothing is left that an interpreter would have to put away


def _start(rank: "dict[str, Any]", ranks: dict[int, int | str], link: int) -> bool:
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
        _tell(link, "refused", rank["rank"], error.strerror)
        return False
    finally:
        os.close(rank["log"])
    ranks[pid] = rank["rank"]
    _tell(link, "started", rank["rank"], pid)
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
            _tell(link, "ended", ranks.pop(pid), f"{code} {time.monotonic()}")


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


def _read(link: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = os.read(link, count - len(data))
        if not part:
            sys.exit(1)
        data += part
    return data


def _tell(link: int, event: str, rank: int | str, more: object) -> None:
    try:  # noqa: SIM105 - contextlib is slow to import
        os.write(link, f"{event} {rank} {more}\n".encode())
    except (BrokenPipeError, ConnectionResetError):
        pass  # nobody listens: the next read tells so


def _ignore(_number: int, _frame: object) -> None:
    pass


if __name__ == "__main__":
    main()
