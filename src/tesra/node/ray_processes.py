"""The operating-system side of a site's Ray: started once, known by pid, ended by pid.

Ray runs in a session of its own, so it outlives a controller that is killed. Every process of it
is recorded with its start time; nothing else is ever signalled, and never ``ray stop``, which ends
other people's. The token is always on: Ray listens on all interfaces and believes whoever has it.
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
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from tesra.kit.errors import Unavailable
from tesra.node.processes import alive

OBJECT_STORE_BYTES = 80_000_000  # Ray's least: no object of ours goes through it
_SOCKET_SUFFIX = len("/r/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store")
_INNER = "r"  # Ray opens its folder to everybody (0777): ours around it stays private
_SOCKET_LIMIT = 107  # bytes of sun_path
_START_TIMEOUT_S = 60
_TERM_WAIT_S = 0.5  # what heeds it at all has ended by then; the rest has nothing to save
_KILL_WAIT_S = 5.0
_POLL_S = 0.05
_VITAL = ("gcs_server", "raylet")


class RayUnavailable(Unavailable):
    """The site's Ray cluster could not be started."""


@dataclass(frozen=True, slots=True)
class RayProcess:
    name: str
    pid: int
    started: float


@dataclass(frozen=True, slots=True)
class RayCore:
    """A cluster's processes: ``session`` is the session id (setsid) that they began in."""

    address: str
    temp: str
    session: int
    processes: tuple[RayProcess, ...]

    def lives(self) -> bool:
        """Whether the processes that a cluster cannot do without still run."""
        vital = [process for process in self.processes if process.name in _VITAL]
        return len(vital) == len(_VITAL) and all(alive(p.pid, p.started) for p in vital)


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
    """The cluster recorded below this folder, whether it lives or not."""
    try:
        fields = json.loads((folder / "ray.json").read_text())
    except FileNotFoundError:
        return None
    processes = tuple(RayProcess(**process) for process in fields.pop("processes"))
    return RayCore(**fields, processes=processes)


def start_head(folder: Path, resources: dict[str, float]) -> RayCore:
    """Start a head and record it. Takes seconds; raises ``RayUnavailable``."""
    temp = _temp_folder(folder)
    log = folder / "ray-start.log"
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--port=0"),
        *("--num-cpus=0", "--num-gpus=0", f"--resources={json.dumps(resources)}"),
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        *("--no-monitor", "--include-dashboard=false", "--include-log-monitor=false"),
        *("--disable-usage-stats", f"--temp-dir={temp / _INNER}"),
    ]
    with log.open("wb") as output:
        starter = subprocess.Popen(
            command,
            env=_environ(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _record(folder, RayCore("", str(temp), starter.pid, ()))
    try:
        code = starter.wait(_START_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        code = -1
    if code != 0:
        starter.kill()
        stop_core(folder)
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        raise RayUnavailable(f"Ray did not start:\n{tail}")
    address = (temp / _INNER / "ray_current_cluster").read_text().strip()
    return refresh_core(folder, RayCore(address, str(temp), starter.pid, ()))


def refresh_core(folder: Path, core: RayCore) -> RayCore:
    """Record the cluster's processes as they are now, beside those that were known."""
    known = {
        process.pid: process for process in core.processes if alive(process.pid, process.started)
    }
    for process in _find(core):
        known.setdefault(process.pid, process)
    core = RayCore(core.address, core.temp, core.session, tuple(known.values()))
    _record(folder, core)
    return core


def stop_core(folder: Path) -> None:
    """End the recorded cluster: SIGTERM, wait, SIGKILL; and remove its folder."""
    core = load_core(folder)
    if core is None:
        return
    core = refresh_core(folder, core)
    for number, wait_s in ((signal.SIGTERM, _TERM_WAIT_S), (signal.SIGKILL, _KILL_WAIT_S)):
        for process in core.processes:
            if alive(process.pid, process.started):
                with contextlib.suppress(ProcessLookupError):  # it went by itself just now
                    os.kill(process.pid, number)
        _wait_gone(core, wait_s)
        core = refresh_core(folder, core)  # what was forked meanwhile
    shutil.rmtree(core.temp, ignore_errors=True)
    (folder / "ray.json").unlink(missing_ok=True)


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
        "RAY_USE_UVLOOP": "0",  # it cannot start processes with every option that asyncio can
    }


def _temp_folder(folder: Path) -> Path:
    """A private folder with a path that is short enough for Ray's sockets."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if len(os.fsencode(folder)) + len("/ray-12345678") + _SOCKET_SUFFIX <= _SOCKET_LIMIT:
        return Path(tempfile.mkdtemp(prefix="ray-", dir=folder))
    return Path(tempfile.mkdtemp(prefix="tesra-ray-", dir="/tmp"))


def _find(core: RayCore) -> list[RayProcess]:
    """The cluster's processes: those of its session or under its folder, and their children.

    Gangs are not among them: each is in a session of its own, and its agent ends it.
    """
    found: dict[int, RayProcess] = {}
    for process in psutil.process_iter():
        try:
            ours = os.getsid(process.pid) == core.session
            if not ours:
                ours = any(core.temp in argument for argument in process.cmdline())
            if ours and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = RayProcess(process.name(), process.pid, process.create_time())
        except (psutil.Error, ProcessLookupError, PermissionError):
            continue
    return list(found.values())


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
