"""The ranks of one run on one node: started together, watched, and surely ended.

They share one sandbox, as ranks under torchrun share a machine: NCCL passes tensors between the
GPUs of a node only inside one PID and IPC namespace. Its first program is ``rank_launcher``.
"""

import asyncio
import compileall
import contextlib
import functools
import json
import marshal
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import cache_from_source
from pathlib import Path

import psutil

from tesra.kit.errors import Unavailable
from tesra.kit.saying import Said, said
from tesra.node import processes
from tesra.node.data_places import data_places
from tesra.node.devices import FoundDevice
from tesra.node.entry import IN_RANK, EntryMissing
from tesra.node.environments import Environment
from tesra.node.failing import make_notes
from tesra.node.rank_plan import Place, plan_ranks
from tesra.node.sandbox import RANK_UID, SAFE_ENVIRON, Sandbox
from tesra.node.tuning.files import make_files
from tesra.node.workspace import TESRA_RANK, AttemptFolders
from tesra.wire.site import RunSpec

__all__ = ["Gang", "GangFailed", "Place", "RankExit"]

LAUNCHER = IN_RANK / "rank_launcher.py"
_START_TIMEOUT_S = 30
_GONE_TIMEOUT_S = 5
_SIGNALLED = 128  # a shell's way to say in an exit code which signal killed a program


class GangFailed(Unavailable):
    """The ranks could not be started on this node."""


@dataclass(frozen=True, slots=True)
class RankExit:
    """How a rank ended: ``exit_code`` is 128+n when signal n killed it; ``ended_at`` is monotonic.

    A helper that failed has a name, and the rank of Tesra's own log.
    """

    rank: int
    exit_code: int
    ended_at: float
    signal: int | None = None
    helper: str | None = None

    @property
    def words(self) -> Said:
        """For the user: ``Rank 1 ended with exit code 3``."""
        who = said(f"The engine's {self.helper}" if self.helper else f"Rank {self.rank:d}")
        if self.signal is None:
            return said(f"{who} ended with exit code {self.exit_code:d}")
        name = _signal_name(self.signal)
        if self.signal == signal.SIGKILL:
            return said(f"{who} was killed by signal {self.signal:d} {name} (out of memory?)")
        return said(f"{who} was killed by signal {self.signal:d} {name}")


class Gang:
    """The ranks of one run on this node. Call ``start`` once, ``wait``, and always ``stop``.

    The sandbox dies with the *thread* that called ``start``: use a loop that lives as long.
    """

    def __init__(  # noqa: PLR0913 - a run, its place, and the four things it runs in
        self,
        run: str,
        spec: RunSpec,
        *,
        place: Place,
        devices: Sequence[FoundDevice],
        environment: Environment,
        folders: AttemptFolders,
        sandbox: Sandbox,
        runtime: Path | None = None,
        variables: Callable[[int], dict[str, str]] = lambda _rank: {},
    ) -> None:
        """``devices``: this node's part of the reservation, in rank order.

        ``runtime``: a folder that holds ``tesra/``, the runtime, to put on the script's path.
        ``variables``: what each rank is told, unless its engine or its user says otherwise.
        """
        self._plan = plan_ranks(
            run,
            spec,
            place=place,
            devices=devices,
            environment=environment,
            folders=folders,
            tmp=Path("/tmp") if sandbox.enabled else folders.tmp,  # noqa: S108 - the sandbox's own
            runtime=runtime,
            variables=variables,
        )
        self._params = spec.params
        self._devices = tuple(devices)
        self._readable = _readable(environment, folders, runtime) + data_places(folders, spec.data)
        self._folders = folders
        self._sandbox = sandbox
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._link: socket.socket | None = None
        self._first: tuple[int, int] | None = None  # the namespace's first process: pid, pidfd
        self._groups: list[int] = []  # without a namespace: the ranks' process groups
        self._running: set[int] = set()
        self._pids: dict[int, int] = {}
        self._refused: str | None = None
        self._exits: list[RankExit] = []
        self._unheard = False
        self._changed = asyncio.Event()
        self.started = 0.0

    @property
    def ranks(self) -> list[int]:
        """Global ranks that run here: one for each device, or just 0 with launch ``single``."""
        return [command.rank for command in self._plan.ranks]

    @property
    def pids(self) -> Mapping[int, int]:
        """The rank of each process that was started for one, by its pid as the scripts see it."""
        return self._pids

    @property
    def pid(self) -> int:
        """The outermost process; with ``started`` its identity for ``processes.alive/kill_tree``."""
        if self._process is None:
            raise GangFailed("This gang has not been started.")
        return self._process.pid

    @property
    def exits(self) -> list[RankExit]:
        """Those that have ended so far, in that order; a helper only if it failed."""
        return list(self._exits)

    @property
    def broken(self) -> bool:
        """Once stopped: whether its sandbox was killed from outside, which no script can do.

        A script can kill ``rank_launcher``, but then bubblewrap still ends by itself.
        """
        code = self._process.returncode if self._process is not None else None
        return self._sandbox.enabled and self._unheard and code is not None and code < 0

    async def start(self) -> None:
        """Returns when every rank runs. Raises ``EntryMissing`` or ``GangFailed``: then nothing is left."""
        self._folders.params.write_text(json.dumps(self._params))
        self._folders.params.chmod(0o644)
        make_files(self._folders, self.ranks)
        make_notes(self._folders, self.ranks)
        ours, theirs = socket.socketpair()
        logs = [_open_log(self._folders.log_of(command.rank)) for command in self._plan.ranks]
        logs += [_open_own_log(self._folders.log_of(TESRA_RANK)) for _ in self._plan.helpers]
        try:
            self._process = self._launch(theirs, logs)
        except OSError as error:
            ours.close()
            raise GangFailed(f"The ranks could not be started: {error}") from error
        finally:
            theirs.close()
        try:
            self.started = processes.started_at(self._process.pid) or time.time()
            ours.setblocking(False)
            self._link = ours
            await asyncio.get_running_loop().sock_sendall(ours, self._message(logs))
        except OSError as error:  # the launcher is gone already
            await self._clear()
            raise GangFailed(f"The ranks could not be started: {self._complaint()}") from error
        finally:
            for log in logs:
                os.close(log)
        self._reader = asyncio.create_task(self._read(ours))
        await self._until_running()

    async def wait(self) -> list[RankExit]:
        """Returns at the first failure, or when all ranks have ended; in the order of their ends."""
        while not self._over() and all(ended.exit_code == 0 for ended in self._exits):
            self._changed.clear()
            await self._changed.wait()
        return self.exits

    async def stop(self, grace_s: float) -> list[RankExit]:
        """SIGTERM to every process, then SIGKILL after the grace; returns when none is left.

        Needed after ``wait`` too: only then is it sure that nothing of the gang survives.
        """
        if self._process is None:
            return []
        if not self._over() and grace_s > 0:
            with contextlib.suppress(OSError):
                self._folders.stopping.touch(mode=0o644)
            processes.signal_all(self._script_processes(), signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_ended(), grace_s)
        await self._clear()
        return self.exits

    def _launch(self, theirs: socket.socket, logs: Sequence[int]) -> subprocess.Popen[bytes]:
        folders = self._folders
        argv = self._sandbox.command(
            [_base_python(), "-I", "-S", str(_launcher()), str(theirs.fileno())],
            cwd=folders.work,
            writable=[
                *folders.writable,
                *map(folders.status_of, self.ranks),
                *map(folders.failing_of, self.ranks),
            ],
            readable=self._readable,
            devices=[path for device in self._devices for path in device.paths],
            tmp=folders.tmp,
        )
        with (folders.logs / "sandbox.log").open("ab") as complaints:
            return subprocess.Popen(
                argv,
                cwd=folders.work,
                env=SAFE_ENVIRON,
                stdin=subprocess.DEVNULL,
                stdout=complaints,
                stderr=complaints,
                pass_fds=(theirs.fileno(), *logs),
                start_new_session=True,
            )

    def _message(self, logs: Sequence[int]) -> bytes:
        """The plan as the launcher reads it; ``logs`` has the ranks' first."""
        count = len(self._plan.ranks)
        ranks = [
            {"rank": command.rank, "argv": command.argv, "environ": command.environ, "log": log}
            for command, log in zip(self._plan.ranks, logs[:count], strict=True)
        ]
        helpers = [
            {"rank": helper.name, "argv": helper.argv, "environ": helper.environ, "log": log}
            for helper, log in zip(self._plan.helpers, logs[count:], strict=True)
        ]
        plan = {"adopt": not self._sandbox.enabled, "ranks": ranks, "helpers": helpers}
        message = marshal.dumps(plan)
        return len(message).to_bytes(4, "big") + message

    async def _until_running(self) -> None:
        wanted = len(self._plan.ranks)
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                while len(self._running) + len(self._exits) < wanted and not self._over():
                    self._changed.clear()
                    await self._changed.wait()
        except (TimeoutError, asyncio.CancelledError) as error:
            await self._clear()
            if isinstance(error, TimeoutError):
                raise GangFailed(f"The ranks did not start within {_START_TIMEOUT_S} s.") from error
            raise
        if self._refused is not None:
            await self._clear()
            program = self._plan.ranks[0].argv[0]
            raise EntryMissing(
                f"The program '{program}' cannot be started: {self._refused}.",
                way_out="Name a file of the project, or a program that the environment has.",
            )
        if len(self._running) + len(self._exits) < wanted:
            await self._clear()
            raise GangFailed(f"The ranks could not be started: {self._complaint()}")

    async def _read(self, link: socket.socket) -> None:
        """Apply the launcher's events until it is gone; what it never told has died with it."""
        loop = asyncio.get_running_loop()
        rest = b""
        while True:
            try:
                part = await loop.sock_recv(link, 1 << 16)
            except OSError:
                part = b""
            if not part:
                break
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                self._apply(*line.decode().split(" ", 2))
            self._changed.set()
        self._unheard = bool(self._running)
        for rank in sorted(self._running):
            self._exits.append(
                RankExit(rank, _SIGNALLED + signal.SIGKILL, time.monotonic(), signal.SIGKILL)
            )
        self._running.clear()
        self._changed.set()

    def _apply(self, event: str, name: str, more: str) -> None:
        rank = int(name) if name.isdigit() else None
        if event == "refused":
            self._refused = more
        elif event == "started":
            self._note_start(int(more))
            if rank is not None:
                self._running.add(rank)
                self._pids[int(more)] = rank
        else:
            self._note_end(name, rank, *more.split(" "))

    def _note_end(self, name: str, rank: int | None, code: str, at: str) -> None:
        if rank is None and int(code) != 0:
            self._exits.append(replace(_exit_of(TESRA_RANK, int(code), float(at)), helper=name))
        elif rank in self._running:
            self._running.discard(rank)
            self._exits.append(_exit_of(rank, int(code), float(at)))

    def _note_start(self, pid: int) -> None:
        if not self._sandbox.enabled:
            self._groups.append(pid)
        elif self._first is None:
            with contextlib.suppress(psutil.Error, OSError):
                first = processes.first_child(self.pid)
                self._first = (first, os.pidfd_open(first))

    def _over(self) -> bool:
        return (
            self._reader is None
            or self._reader.done()
            or self._refused is not None
            or self._all_told()
        )

    def _all_told(self) -> bool:
        ended = [known for known in self._exits if known.helper is None]
        return len(ended) == len(self._plan.ranks)

    async def _all_ended(self) -> None:
        while not self._over():
            self._changed.clear()
            await self._changed.wait()

    def _script_processes(self) -> list[psutil.Process]:
        """All below the first process; the launcher among them takes no notice of SIGTERM."""
        return processes.descendants(self._first[0] if self._first else self.pid)

    async def _clear(self) -> None:
        """Kill whatever is left of the gang, wait until the kernel has ended it all."""
        if self._process is None:
            return
        self._kill()
        if self._first is not None:
            await _readable_fd(self._first[1], _GONE_TIMEOUT_S)
            os.close(self._first[1])
            self._first = None
        await _reaped(self._process, _GONE_TIMEOUT_S)
        self._groups.clear()
        if self._reader is not None:
            await self._reader
        if self._link is not None:
            self._link.close()
            self._link = None

    def _kill(self) -> None:
        if self._process is None:
            return
        if self._process.poll() is not None:  # a launcher that died could not end its ranks
            for group in self._groups:
                processes.kill_group(group)
            return
        if self._first is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first[1], signal.SIGKILL)
            return
        processes.kill_tree(self._process.pid, self.started)

    def _complaint(self) -> str:
        text = (self._folders.logs / "sandbox.log").read_text(errors="replace").strip()
        return text.splitlines()[-1] if text else "the launcher gave no reason"


def _exit_of(rank: int, code: int, at: float) -> RankExit:
    """``at`` is the launcher's monotonic clock, which is ours: the machine has one."""
    return RankExit(rank, code, at) if code >= 0 else RankExit(rank, _SIGNALLED - code, at, -code)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""


@functools.cache
def _launcher() -> Path:
    """Its byte code, as no rank may write that of the programs beside it: without, each compiles anew."""
    compiled = compileall.compile_dir(IN_RANK, quiet=2)
    return Path(cache_from_source(str(LAUNCHER))) if compiled else LAUNCHER


def _base_python() -> str:
    """The interpreter that every sandbox holds, whatever the environment's is."""
    return str(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")


def _readable(
    environment: Environment, folders: AttemptFolders, runtime: Path | None
) -> list[Path]:
    paths = [IN_RANK, folders.params, folders.tuning]
    paths += [environment.root, *environment.bases]
    return [*paths, runtime] if runtime else paths


def _open_log(path: Path) -> int:
    """Ours to make and to read; the ranks can only append, and open it again as /dev/stdout."""
    descriptor = os.open(
        path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    if os.geteuid() == 0:
        os.fchown(descriptor, RANK_UID, RANK_UID)
    return descriptor


def _open_own_log(path: Path) -> int:
    """Tesra's own log, for a helper to append to: no rank can open it."""
    return os.open(
        path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )


async def _readable_fd(descriptor: int, timeout_s: float) -> None:
    """A pidfd is readable when its process has ended, and with it its whole PID namespace."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ready.wait(), timeout_s)
    finally:
        loop.remove_reader(descriptor)


async def _reaped(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(process.pid)
        try:
            await _readable_fd(descriptor, timeout_s)
        finally:
            os.close(descriptor)
    process.poll()
