"""A real network that a test may break: its processes by name, a run that obeys, and what must hold."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

from tesra.app.network import Network
from tesra.kit.errors import TesraError
from tesra.kit.settings import Home, Settings, default_cache
from tesra.node import processes
from tesra.node.attempt_record import AttemptRecord, load_records
from tesra.node.ray_processes import load_core
from tesra.sdk.client import Client, LiveRun
from tesra.sdk.follow import Reconnection

ROOT = Path(__file__).resolve().parent.parent.parent
MARK = "NETWORK_UNDER_TEST"  # a name that the site does not take from Ray's environment
PATIENCE_S = 90.0
DEVICES = 2
ENDED = ("succeeded", "failed", "stopped")
SLACK_MS = 50

# Counts until its workspace holds a file "finish"; a test that gave up does not leave it for long.
COUNTER = """
import os, pathlib, sys, time
rank, count, deadline = os.environ["RANK"], 0, time.monotonic() + 150
while not os.path.exists("finish") and time.monotonic() < deadline:
    print(f"line {count}", flush=True)
    count += 1
    time.sleep(0.01)
print(f"counted {count}", flush=True)
pathlib.Path("out").mkdir(exist_ok=True)
pathlib.Path("out", f"model-{rank}.bin").write_bytes(os.urandom(1000))
"""


# Looks wherever a script could look; the hints tell it where things are. MARK stands there reversed,
# so that it does not find itself.
SPY = """
import json, os, stat
mark, network, ray = os.environ["MARK"][::-1].encode(), os.environ["NETWORK"], os.environ["RAY"]
found = {"marked": [], "writable": [], "opened": [], "processes": [], "uid": os.getuid()}
found["own"] = os.path.dirname(os.getcwd())
found["beside"] = os.listdir(os.path.dirname(found["own"]))
found["environ"] = list(os.environ)

def look(path):
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            with open(path, "rb") as file:
                if mark in file.read(1 << 20):
                    found["marked"].append(path)
    except OSError:
        pass

for top in set(os.listdir("/")) - {"usr", "lib", "lib64", "lib32", "bin", "sbin", "sys"}:
    for folder, folders, files in os.walk("/" + top):
        if top == "proc":
            if folder.count("/") > 3:
                folders.clear()
        elif os.access(folder, os.W_OK):
            found["writable"].append(folder)
        if "site-packages" in folders:
            folders.remove("site-packages")
        for name in files:
            look(os.path.join(folder, name))
for root in ("", "/proc/1/root"):
    for path in (network + "/keys", network + "/site/ray.token", network + "/postgres", ray):
        if os.access(root + path, os.F_OK):
            found["opened"].append(root + path)
for pid in filter(str.isdigit, os.listdir("/proc")):
    with open(f"/proc/{pid}/cmdline") as file:
        found["processes"].append(file.read().replace(chr(0), " "))
print(json.dumps(found))
"""


def wait_for(what: Callable[[], Any], why: str, patience_s: float = PATIENCE_S) -> Any:
    """The first truthy answer."""
    deadline = time.monotonic() + patience_s
    while True:
        with contextlib.suppress(TesraError, psutil.Error):  # a server that is away, say
            found = what()
            if found:
                return found
        assert time.monotonic() < deadline, f"after {patience_s:.0f} s still not so: {why}"
        time.sleep(0.02)


@dataclass
class FaultNetwork:
    """One home with all its processes."""

    root: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="tesra-faults-")))
    nodes: int = 1

    @cached_property
    def home(self) -> Home:
        return Home(self.root / "home")

    @cached_property
    def environ(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TESRA_")}
        return kept | {
            "TESRA_HOME": str(self.home.root),
            "TESRA_CONFIG_DIR": str(self.root / "config"),
            "TESRA_CACHE": str(default_cache()),
            "PYTHONPATH": str(ROOT / "src"),
            MARK: self.root.name,
        }

    def begin(self, *arguments: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
        """A ``tesra`` command that is not waited for."""
        return subprocess.Popen(
            [sys.executable, "-m", "tesra.app.main", *arguments],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def tesra(self, *arguments: str) -> str:
        command = self.begin(*arguments)
        out, err = command.communicate()
        assert command.returncode == 0, f"tesra {' '.join(arguments)}\n{out}\n{err}"
        return out

    def up(self) -> list[str]:
        """The names of what it started."""
        size = ("--devices", str(DEVICES), "--nodes", str(self.nodes), "--peers", "1")
        answer = self.tesra("up", "--port", "0", *size, "--detach", "--json")
        started: list[str] = json.loads(answer)["started"]
        return started

    def down(self) -> None:
        self.tesra("down")

    def remove(self) -> None:
        """The end, whatever has happened."""
        self.begin("down").communicate()
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def url(self) -> str:
        return str(json.loads(self.home.config.read_text())["url"])

    @cached_property
    def client(self) -> Client:
        """Of a user whose bills are paid by themselves and whose project is the counter."""
        return self.user("ann")

    def user(self, name: str, source: str = COUNTER) -> Client:
        """A new user on autopay with a project ``job`` that needs the warm environment."""
        client = Client(url=self.url)
        client.register(name, "a long secret of this user")
        client.autopay(on=True)
        folder = Path(tempfile.mkdtemp(dir=self.root))
        digits = ROOT / "examples" / "pytorch-digits"
        (folder / "requirements.txt").write_text((digits / "requirements.txt").read_text())
        (folder / "train.py").write_text(source)
        client.import_project(folder, name="job")
        return client

    # -- processes -----------------------------------------------------------------------------

    def pid(self, name: str) -> int:
        """``server``, ``site`` or ``postgres``, whichever runs now."""
        rows = {
            row.name: row.pid for row in Network(Settings(self.home, default_cache())).processes()
        }
        pid = rows[name]
        assert pid is not None
        return pid

    def ray_pid(self, name: str) -> int:
        """``raylet``, ``gcs_server``, or ``ray::NodeAgent``, which is the raylet's child."""
        core = load_core(self.home.site)
        assert core is not None
        return next(
            known.pid
            for known in core.processes
            if known.name.startswith(name) and processes.alive(known.pid, known.started)
        )

    def kill_node(self, place: int) -> None:
        """As when a machine dies: Ray's processes, the agent and all ranks of one node, at once."""
        kill_node(self.home.node(place))

    def gangs(self, place: int | None = None) -> list[AttemptRecord]:
        """Those that run now, on all nodes or on one."""
        folders = self.home.nodes() if place is None else [self.home.node(place)]
        return [
            record
            for folder in folders
            for record in load_records(folder / "attempts")
            if record.pid is not None and psutil.pid_exists(record.pid)
        ]

    def gang(self) -> AttemptRecord:
        """The one that runs now; one node's part of it if it is on several."""
        first, *others = self.gangs()
        assert {record.status.attempt for record in others} <= {first.status.attempt}
        return first

    def ranks(self, place: int | None = None) -> list[psutil.Process]:
        """The scripts that run now, on all nodes or on one."""
        family = [
            child
            for record in self.gangs(place)
            for child in processes.descendants(record.pid or 0)
        ]
        return [process for process in family if "train.py" in process.cmdline()]

    def processes(self) -> list[str]:
        """Every live process that was started for this network, however indirectly."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                command = " ".join(process.cmdline())
                ours = str(self.root) in command or process.environ().get(MARK) == self.root.name
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid} {command[:160]}")
        return found

    # -- runs ----------------------------------------------------------------------------------

    def submit(self, client: Client | None = None, **wishes: Any) -> LiveRun:
        wanted = {"devices": DEVICES, "engine": "pytorch", "output": "out"} | wishes
        return (client or self.client).run("job", "train.py", **wanted)

    def running(self, run: LiveRun, *, attempt: int = 1, lines: int = 20) -> None:
        """Returns when every rank of that attempt has said so much."""

        def said() -> bool:
            heard = self.heard(run)
            return all(len(heard[attempt, rank]) > lines for rank in range(run.devices))

        wait_for(said, f"attempt {attempt} of {run.id} counts")

    def log_file(self, rank: int) -> Path:
        """Where the rank that runs now writes on its node."""
        attempt = self.gang().status.attempt
        logs = [
            folder / "attempts" / attempt / f"logs/rank-{rank}.log" for folder in self.home.nodes()
        ]
        return next(log for log in logs if log.exists())

    def let_finish(self) -> None:
        """Tell the counters to end."""
        for folder in self.home.nodes():
            for work in folder.glob("attempts/*/work"):
                (work / "finish").touch()

    def finish(self, run: LiveRun) -> LiveRun:
        """Let the counters end, and wait for the run's end."""
        self.let_finish()
        return self.ended(run)

    def stop_runs(self) -> None:
        """End what an earlier test left."""
        for run in self.client.runs():
            if run.state not in ENDED:
                self.client.stop(run.id)
                self.ended(LiveRun.of(run, self.client))

    def ended(self, run: LiveRun) -> LiveRun:
        return wait_for(
            lambda: (now := run.refresh()).state in ENDED and now,
            f"{run.id} ends",
        )

    def heard(self, run: LiveRun, *, follow: bool = False) -> dict[tuple[int, int], list[str]]:
        """The lines of each (attempt, rank)."""
        client = run._client
        texts: dict[tuple[int, int], str] = defaultdict(str)
        again = Reconnection() if follow else None
        chunks = client.follow(run.id, again=again) if follow else client.logs(run.id)
        for chunk in chunks:
            if chunk.text is not None:
                texts[chunk.attempt, chunk.rank] += chunk.text
        return defaultdict(list, {key: text.splitlines() for key, text in texts.items()})

    # -- what must hold ------------------------------------------------------------------------

    def check_log(self, run: LiveRun, *, complete: int) -> None:
        """No line lost or doubled; attempt ``complete`` has its whole log."""
        heard = self.heard(run)
        for (attempt, rank), lines in heard.items():
            if rank < 0:
                continue
            counted = [line for line in lines if line.startswith("line ")]
            assert counted == [f"line {n}" for n in range(len(counted))], (attempt, rank)
            if attempt == complete:
                assert lines[-1] == f"counted {len(counted)}"
        assert {rank for attempt, rank in heard if attempt == complete} >= set(range(run.devices))

    def check_bill(self, run: LiveRun, *, charged: bool = True) -> None:
        """One bill: of the last attempt alone, its records adjacent, never more than its time."""
        client = run._client
        run = run.refresh()
        assert run.bill is not None
        assert [bill.id for bill in client.bills() if bill.run == run.id] == [run.bill]
        lines = client.bill(run.bill).lines
        if not charged:
            assert run.amount_cny == "0.00"
            return
        assert len({line.attempt for line in lines}) == 1
        assert run.ended_at is not None
        for before, after in itertools.pairwise(lines):
            gap = (after.started_at - before.ended_at).total_seconds() * 1000
            assert abs(gap) < SLACK_MS
        events = [event for event in client.events(run.id) if event.kind == "running"]
        wall_ms = (run.ended_at - events[-1].at).total_seconds() * 1000
        spent_ms = sum(line.duration_ms for line in lines)
        assert 0 < spent_ms <= wall_ms + 2000  # the server hears of the start a little later

    def check_rest(self) -> None:
        """Devices are free, and nothing of a gang is left."""
        wait_for(lambda: all(c.free == c.total for c in self.client.devices()), "devices are free")
        wait_for(
            lambda: not [line for line in self.processes() if "train.py" in line],
            "no rank is left",
        )
        wait_for(
            lambda: (
                not [
                    record
                    for folder in self.home.nodes()
                    for record in load_records(folder / "attempts")
                    if record.kept_until is None
                ]
            ),
            "the attempts' folders are removed",
        )


def kill_node(folder: Path) -> None:
    """SIGKILL everything of the node that has this folder; returns when it is gone.

    All is stopped before anything is killed: nobody on it sees another die.
    """
    core = load_core(folder)
    assert core is not None
    roots = [(known.pid, known.started) for known in core.processes]
    roots += [
        (gang.pid, gang.pid_started) for gang in load_records(folder / "attempts") if gang.pid
    ]
    doomed = {pid: psutil.Process(pid) for pid, started in roots if processes.alive(pid, started)}
    processes.signal_all(doomed.values(), signal.SIGSTOP)
    for pid in list(doomed):
        doomed |= {child.pid: child for child in processes.descendants(pid)}
    for number in (signal.SIGSTOP, signal.SIGKILL):
        processes.signal_all(doomed.values(), number)
    wait_for(
        lambda: not [one for one in doomed.values() if one.is_running() and not _is_zombie(one)],
        f"the node of {folder} is gone",
    )


def _is_zombie(process: psutil.Process) -> bool:
    return process.status() == psutil.STATUS_ZOMBIE


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """A real signal; returns when a killed process is gone."""
    process = psutil.Process(pid)
    process.send_signal(number)
    if number == signal.SIGKILL:
        wait_for(
            lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE,
            f"{pid} is gone",
        )
