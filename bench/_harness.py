"""What the scripts share: a network of their own, the command line as a user has it, and figures.

A script prints one line of JSON for each figure, and ends with 0 whatever it has found.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from tesra.kit.settings import default_cache

ROOT = Path(__file__).resolve().parent.parent
TESRA = (sys.executable, "-m", "tesra.app.main")
MARK = "NETWORK_UNDER_BENCH"  # a name that the site does not take from Ray's environment
ENDED = {"succeeded", "failed", "stopped"}
RUN_TIMEOUT_S = 900.0
MIB = 2**20
HAS_TORCH = "from importlib.util import find_spec; find_spec('torch') or exit(1)"


class BenchFailed(Exception):
    """Something that is measured did not work at all."""


def report(
    figure: str,
    value: float | None,
    *,
    target: float,
    versus: dict[str, Any],
    at_least: bool = False,
) -> None:
    """One figure; None as the value says that it could not be taken."""
    holds = value is not None and (value >= target if at_least else value <= target)
    row = {"figure": figure, "value": value, "target": target, "holds": holds, "versus": versus}
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


def run_bench(measure: Callable[[], None], figure: str, target: float) -> None:
    """Run one script's measurement; what breaks it is said in place of the figure."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # no network may be left behind
    try:
        measure()
    except (BenchFailed, subprocess.SubprocessError, OSError) as error:
        report(figure, None, target=target, versus={"error": str(error)})


@dataclass(frozen=True)
class Network:
    """A running network and a user who is signed in."""

    home: Path
    environ: dict[str, str]
    up_s: float = 0.0

    def tesra(self, *arguments: str) -> Any:
        """A command with ``--json``, answered."""
        place = arguments.index("--") if "--" in arguments else len(arguments)
        done = subprocess.run(
            [*TESRA, *arguments[:place], "--json", *arguments[place:]],
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchFailed(f"tesra {' '.join(arguments)}: {done.stderr.strip()[-500:]}")
        return json.loads(done.stdout)

    def start_run(self, folder: Path, *options: str) -> str:
        """Import a folder and queue a run of its ``train.py``; answers its id."""
        answer = self.tesra("run", str(folder), "--entry", "train.py", "--detach", *options)
        return str(answer["run"])

    def finish_run(self, run: str) -> dict[str, Any]:
        """Wait for a run's end; answers its record."""
        deadline = time.monotonic() + RUN_TIMEOUT_S
        while (record := self.tesra("show", run))["state"] not in ENDED:
            if time.monotonic() > deadline:
                raise BenchFailed(f"{run} is still {record['state']}")
            time.sleep(0.25)
        if record["state"] != "succeeded":
            raise BenchFailed(f"{run} {record['state']}: {record.get('reason')}")
        return dict(record)

    def output_of(self, run: str) -> str:
        """All that the run has printed."""
        done = subprocess.run(
            [*TESRA, "logs", run, "--rank", "0"],
            env=self.environ,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def pid(self, name: str) -> int:
        """The process of this name."""
        rows = self.tesra("status")["processes"]
        return int(next(row["pid"] for row in rows if row["name"] == name))


@contextmanager
def network(devices: int = 2, *, settings: Mapping[str, str] | None = None) -> Iterator[Network]:
    """A network in a temporary folder, stopped and removed at the end."""
    home = Path(tempfile.mkdtemp(prefix="tesra-bench-"))
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TESRA_")}
    environ = kept | {
        "TESRA_HOME": str(home),
        "TESRA_CACHE": str(default_cache()),
        "TESRA_CONFIG_DIR": str(home / "logins"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        MARK: home.name,
        **(settings or {}),
    }
    bare = Network(home, environ)
    try:
        began = time.monotonic()
        started = bare.tesra("up", "--port", "0", "--devices", str(devices), "--detach")
        up = replace(bare, up_s=time.monotonic() - began)
        yield sign_in(up, started["url"], started["operator_token"])
    finally:
        subprocess.run([*TESRA, "down"], env=environ, stdout=sys.stderr, check=False)
        shutil.rmtree(home, ignore_errors=True)


def sign_in(bare: Network, url: str, operator_token: str) -> Network:
    """A user with money enough for any bench, who pays by itself."""
    name = f"bench-{secrets.token_hex(3)}"
    account = bare.tesra(
        "register", "--url", url, "--name", name, "--password", secrets.token_urlsafe()
    )
    bare.tesra("topup", name, "1000", "--url", url, "--token", operator_token)
    environ = bare.environ | {"TESRA_URL": url, "TESRA_TOKEN": account["token"]}
    signed_in = replace(bare, environ=environ)
    signed_in.tesra("autopay", "on")
    return signed_in


@contextmanager
def project(script: str, requirements: Sequence[str] = ()) -> Iterator[Path]:
    """A project of one script."""
    folder = Path(tempfile.mkdtemp(prefix="tesra-bench-project-"))
    try:
        (folder / "train.py").write_text(script, encoding="utf-8")
        if requirements:
            (folder / "requirements.txt").write_text("\n".join(requirements) + "\n")
        yield folder
    finally:
        shutil.rmtree(folder)


def engine_python() -> str:
    """The interpreter of the newest environment with torch: what the runs use, for bare runs."""
    pythons = default_cache().glob("environments/*/venv/bin/python")
    for python in sorted(pythons, key=lambda path: path.lstat().st_mtime, reverse=True):
        if subprocess.run([python, "-c", HAS_TORCH], check=False).returncode == 0:
            return str(python)
    raise BenchFailed("the cache holds no environment with torch")


def python_of(lock: str) -> str:
    """The interpreter of the environment that holds exactly these packages: the run's own."""
    for path in default_cache().glob("environments/*/lock.txt"):
        if path.read_text() == lock:
            return str(path.parent / "venv" / "bin" / "python")
    raise BenchFailed("the cache does not hold the environment of the run")


def seconds_between(earlier: str, later: str) -> float:
    """Between two times as the API writes them."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def processes_of(home: Path) -> list[psutil.Process]:
    """Every process of the network: by the mark that it has inherited, or by its command line."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            if str(home) in command or process.environ().get(MARK) == home.name:
                found.extend([process, *process.children(recursive=True)])
        except psutil.Error:
            continue
    return found


def cpu_seconds_by_part(net: Network) -> dict[str, float]:
    """CPU time so far by part of the network; ``ranks``: scripts that have ended, with their sandboxes.

    Unlike a time on the clock it hardly depends on what else the machine does.
    """
    parts = {int(row["pid"]): str(row["name"]) for row in net.tesra("status")["processes"]}
    spent: dict[str, float] = {}
    for process in {known.pid: known for known in processes_of(net.home)}.values():
        try:
            line = [process, *process.parents()]
            times, title = process.cpu_times(), process.cmdline()[0]
        except (psutil.Error, IndexError):
            continue
        part = next((parts[one.pid] for one in line if parts.get(one.pid) == "postgres"), None)
        part = part or parts.get(process.pid) or ("agent" if "NodeAgent" in title else "ray")
        spent[part] = spent.get(part, 0.0) + times.user + times.system
        gone = "ranks" if part == "agent" else part
        if part in ("agent", "postgres"):
            spent[gone] = spent.get(gone, 0.0) + times.children_user + times.children_system
    return spent


def pss_bytes(process: psutil.Process) -> int:
    """Its share of memory, shared pages divided among those who share them."""
    try:
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
