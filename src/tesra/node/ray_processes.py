"""The operating-system side of a site's Ray: started once, known by pid, ended by pid.

Each node's part of it runs in a session of its own, so it outlives a controller that is killed.
Every process is recorded in its node's folder with its start time; nothing else is ever
signalled, and never ``ray stop``, which ends other people's. The token is always on: Ray listens
on all interfaces and believes whoever has it.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from tesra.kit.errors import Unavailable
from tesra.node.processes import alive, descendants

OBJECT_STORE_BYTES = 80_000_000  # Ray's least: no object of ours goes through it
_SOCKET_SUFFIX = len("/r/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store.10")
_INNER = "r"  # Ray opens its folder to everybody (0777): ours around it stays private
_SOCKET_LIMIT = 107  # bytes of sun_path
_START_TIMEOUT_S = 60
_TERM_WAIT_S = 0.5  # what heeds it at all has ended by then; the rest has nothing to save
_KILL_WAIT_S = 5.0
_POLL_S = 0.05
_HEADS_OWN = "gcs_server"
_EACH_NODES = "raylet"


class RayUnavailable(Unavailable):
    """The site's Ray cluster could not be started."""


@dataclass(frozen=True, slots=True)
class RayProcess:
    name: str
    pid: int
    started: float


@dataclass(frozen=True, slots=True)
class RayCore:
    """One node's part of a cluster: ``session`` is the session id (setsid) that it began in.

    ``mark`` differs at each start: a resource with it in its name is never one of a node that died.
    """

    address: str
    temp: str
    session: int
    processes: tuple[RayProcess, ...]
    head: bool = True
    mark: str = ""

    def lives(self) -> bool:
        """Whether the processes that this part cannot do without still run."""
        vital = {_HEADS_OWN, _EACH_NODES} if self.head else {_EACH_NODES}
        found = [process for process in self.processes if process.name in vital]
        return {process.name for process in found} == vital and all(
            alive(process.pid, process.started) for process in found
        )


@dataclass(frozen=True, slots=True)
class Starting:
    """A node's part of Ray that was just begun; ``finish_start`` waits for it."""

    folder: Path
    core: RayCore
    starter: "subprocess.Popen[bytes]"

    @property
    def log(self) -> Path:
        return self.folder / "ray-start.log"


def auth_environ(folder: Path) -> dict[str, str]:
    """The variables that let a process speak to this site's Ray; the token is made when missing."""
    token = folder / "ray.token"
    if not token.exists():
        draft = folder / f"ray.token.{secrets.token_hex(4)}"
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(file, secrets.token_hex(32).encode())
        os.fsync(file)
        os.close(file)
        draft.rename(token)
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",  # it would take SIGTERM from the controller
    }


def driver_environ(folder: Path) -> dict[str, str]:
    """For a process that connects to this site's Ray and must outlive it; set before Ray's import.

    A driver whose parent is gone (a detached site's) takes itself for the raylet's child and ends
    at once with it, unless told to look at another process: itself. And a call made while there is
    no connection must fail, not start another Ray.
    """
    return {
        **auth_environ(folder),
        "RAY_RAYLET_PID": str(os.getpid()),
        "RAY_ENABLE_AUTO_CONNECT": "0",
    }


def load_core(folder: Path) -> RayCore | None:
    """What is recorded in a node's folder, whether it lives or not."""
    try:
        fields = json.loads((folder / "ray.json").read_text())
    except FileNotFoundError:
        return None
    processes = tuple(RayProcess(**process) for process in fields.pop("processes"))
    return RayCore(**fields, processes=processes)


def begin_head(folder: Path, mark: str, resources: dict[str, float]) -> Starting:
    """Begin a cluster with the site's first node, and record it."""
    temp = _temp_folder(folder)
    options = ["--head", "--port=0", "--no-monitor", "--include-dashboard=false"]
    core = RayCore("", str(temp), 0, (), mark=mark)
    return _begin(folder, core, [*options, f"--temp-dir={temp / _INNER}"], resources, folder)


def begin_node(
    folder: Path, mark: str, resources: dict[str, float], *, head: RayCore, site: Path
) -> Starting:
    """Begin a further node beside a head that may itself still be starting; ``site`` has the token."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    core = RayCore(head.address, head.temp, 0, (), head=False, mark=mark)
    return _begin(folder, core, [f"--address={head.address}"], resources, site)


def await_address(head: Starting, ip: str) -> RayCore:
    """The head, as soon as others can join it: seconds before its start is finished.

    Raises ``RayUnavailable`` when it ends before that.
    """
    deadline = time.monotonic() + _START_TIMEOUT_S
    while head.starter.poll() in (None, 0) and time.monotonic() < deadline:
        for port in Path(head.core.temp, _INNER).glob("session_2*/gcs_server_port_*"):
            if port.suffix == ".tmp":  # about to be renamed
                continue
            if text := port.read_text().strip():
                return replace(head.core, address=f"{ip}:{text}")
        time.sleep(_POLL_S)
    _give_up(head)
    raise _unavailable(head)


def finish_start(starting: Starting) -> RayCore:
    """Wait until this part of the cluster is up, seconds; raises ``RayUnavailable``.

    A further node's raylet registers itself while what it is needed for is begun already.
    """
    deadline = time.monotonic() + _START_TIMEOUT_S
    while (code := starting.starter.poll()) is None and time.monotonic() < deadline:
        if not starting.core.head and _has_raylet(starting.starter.pid):
            code = 0
            break
        time.sleep(_POLL_S)
    if code != 0:
        _give_up(starting)
        raise _unavailable(starting)
    core = starting.core
    if core.head:
        address = Path(core.temp, _INNER, "ray_current_cluster").read_text().strip()
        core = replace(core, address=address)
    return refresh_core(starting.folder, core)


def refresh_core(folder: Path, core: RayCore) -> RayCore:
    """Record the node's Ray processes as they are now, beside those that were known."""
    return _refresh(folder, core, _of_session(core.session))


def stop_core(folder: Path) -> None:
    """End what is recorded: SIGTERM, wait, SIGKILL. With the head goes the cluster's own folder.

    The head's is the last one to stop: it takes along whatever is left of the cluster.
    """
    core = load_core(folder)
    if core is None:
        return
    core = _refresh(folder, core, _to_stop(core))
    for number, wait_s in ((signal.SIGTERM, _TERM_WAIT_S), (signal.SIGKILL, _KILL_WAIT_S)):
        for process in core.processes:
            if alive(process.pid, process.started):
                with contextlib.suppress(ProcessLookupError):  # it went by itself just now
                    os.kill(process.pid, number)
        _wait_gone(core, wait_s)
        core = _refresh(folder, core, _to_stop(core))  # what was forked meanwhile
    if core.head:
        shutil.rmtree(core.temp, ignore_errors=True)
    (folder / "ray.json").unlink(missing_ok=True)


def _begin(
    folder: Path, core: RayCore, options: Sequence[str], resources: dict[str, float], site: Path
) -> Starting:
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", *options),
        *("--num-cpus=0", "--num-gpus=0", f"--resources={json.dumps(resources)}"),
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        *("--include-log-monitor=false", "--disable-usage-stats"),
    ]
    with (folder / "ray-start.log").open("wb") as output:
        starter = subprocess.Popen(
            command,
            env=_environ(site),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    core = replace(core, session=starter.pid)
    _record(folder, core)
    return Starting(folder, core, starter)


def _has_raylet(starter: int) -> bool:
    return any(process.name() == _EACH_NODES for process in descendants(starter))


def _give_up(starting: Starting) -> None:
    starting.starter.kill()
    starting.starter.wait()
    stop_core(starting.folder)


def _unavailable(starting: Starting) -> RayUnavailable:
    tail = "\n".join(starting.log.read_text(errors="replace").splitlines()[-5:])
    return RayUnavailable(f"Ray did not start:\n{tail}")


def _environ(folder: Path) -> dict[str, str]:
    """Ray's own environment: nothing of the caller's Ray, no token of Tesra's."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("RAY_") and (not name.startswith("TESRA_") or name == "TESRA_CACHE")
    }
    return {
        **kept,
        **auth_environ(folder),
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the agent must see the GPUs it hands out
        "RAY_worker_niceness": "0",  # else ranks inherit the lowest priority but four
        "RAY_USE_UVLOOP": "1",  # a fifth of what a run costs its node
        # An agent that ends with its raylet would kill its gangs first and see them die "from outside".
        "RAY_kill_child_processes_on_worker_exit": "0",
    }


def _temp_folder(folder: Path) -> Path:
    """A private folder with a path that is short enough for Ray's sockets."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if len(os.fsencode(folder)) + len("/ray-12345678") + _SOCKET_SUFFIX <= _SOCKET_LIMIT:
        return Path(tempfile.mkdtemp(prefix="ray-", dir=folder))
    return Path(tempfile.mkdtemp(prefix="tesra-ray-", dir="/tmp"))


def _of_session(session: int) -> list[RayProcess]:
    """Gangs are not among them: each is in a session of its own, and its agent ends it."""
    return _find(lambda process: os.getsid(process.pid) == session)


def _to_stop(core: RayCore) -> list[RayProcess]:
    """The head's: all of the cluster, also what has made a session of its own."""
    if not core.head:
        return _of_session(core.session)
    return _find(
        lambda process: (
            os.getsid(process.pid) == core.session
            or any(core.temp in argument for argument in process.cmdline())
        )
    )


def _find(ours: Callable[[psutil.Process], bool]) -> list[RayProcess]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or not ours(process):
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(RayProcess(process.name(), process.pid, process.create_time()))
        except (psutil.Error, ProcessLookupError, PermissionError):
            continue
    return found


def _refresh(folder: Path, core: RayCore, found: Sequence[RayProcess]) -> RayCore:
    known = {
        process.pid: process for process in core.processes if alive(process.pid, process.started)
    }
    for process in found:
        known.setdefault(process.pid, process)
    core = replace(core, processes=tuple(known.values()))
    _record(folder, core)
    return core


def _wait_gone(core: RayCore, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        if not any(alive(process.pid, process.started) for process in core.processes):
            return
        time.sleep(_POLL_S)


def _record(folder: Path, core: RayCore) -> None:
    draft = folder / "ray.json.new"
    draft.write_text(json.dumps(asdict(core), indent=1))
    draft.rename(folder / "ray.json")
