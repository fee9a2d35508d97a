"""A real network that a test may break: its processes by name, a run that obeys, and what must hold."""

import contextlib
import json
import os
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

from tesra.kit.errors import TesraError
from tesra.kit.settings import Home, default_cache
from tesra.node.attempt_record import AttemptRecord, load_records
from tesra.node.ray_processes import load_core
from tesra.sdk.client import Client, LiveRun
from tesra.sdk.follow import Reconnection

ROOT = Path(__file__).resolve().parent.parent.parent
MARK = "NETWORK_UNDER_TEST"  # a name that the site does not take from Ray's environment
PATIENCE_S = 60.0
DEVICES = 2
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

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """A ``tesra`` command that is not waited for."""
        return subprocess.Popen(
            [sys.executable, "-m", "tesra.app.main", *arguments],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def tesra(self, *arguments: str) -> str:
        command = self.begin(*arguments)
        out, err = command.communicate()
        assert command.returncode == 0, f"tesra {' '.join(arguments)}\n{out}\n{err}"
        return out

    def up(self) -> list[str]:
        """The names of what it started."""
        answer = self.tesra("up", "--port", "0", "--devices", str(DEVICES), "--detach", "--json")
        started: list[str] = json.loads(answer)["started"]
        return started

    def down(self) -> None:
        self.tesra("down")

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
        rows = json.loads(self.tesra("status", "--json"))["processes"]
        return next(row["pid"] for row in rows if row["name"] == name)

    def ray_pid(self, name: str) -> int:
        """``raylet``, ``gcs_server``, or ``ray::NodeAgent``."""
        core = load_core(self.home.site)
        assert core is not None
        return next(
            process.pid
            for process in psutil.process_iter()
            if process.name().startswith(name[:15])
            and (name[:15] != "ray::NodeAgent" or process.environ().get(MARK) == self.root.name)
            and (name == "ray::NodeAgent" or any(core.temp in part for part in process.cmdline()))
        )

    def gang(self, attempts: int = 1) -> AttemptRecord:
        """The one that runs now."""
        (record,) = [
            record
            for record in load_records(self.home.site / "attempts")
            if record.pid is not None and psutil.pid_exists(record.pid) and record.ran
        ]
        return record

    def ranks(self) -> list[psutil.Process]:
        """The scripts that run now."""
        found = psutil.Process(self.gang().pid).children(recursive=True)
        return [process for process in found if "train.py" in process.cmdline()]

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

    def finish(self, run: LiveRun) -> LiveRun:
        """Let the counter end, and wait for the run's end."""
        for record in load_records(self.home.site / "attempts"):
            work = self.home.site / "attempts" / record.status.attempt / "work"
            if work.exists():
                (work / "finish").touch()
        return self.ended(run)

    def ended(self, run: LiveRun) -> LiveRun:
        return wait_for(
            lambda: (now := run.refresh()).state in ("succeeded", "failed", "stopped") and now,
            f"{run.id} ends",
        )

    def heard(self, run: LiveRun, *, follow: bool = False) -> dict[tuple[int, int], list[str]]:
        """The lines of each (attempt, rank)."""
        client = run._client  # noqa: SLF001
        texts: dict[tuple[int, int], str] = defaultdict(str)
        again = Reconnection() if follow else None
        chunks = client.follow(run.id, again=again) if follow else client.logs(run.id)
        for chunk in chunks:
            texts[chunk.attempt, chunk.rank] += chunk.text or ""
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
        client = run._client  # noqa: SLF001
        run = run.refresh()
        assert run.bill is not None
        assert [bill.id for bill in client.bills() if bill.run == run.id] == [run.bill]
        lines = client.bill(run.bill).lines
        if not charged:
            assert run.amount_cny == "0.00"
            return
        assert {line.attempt for line in lines} == {run.attempt}
        assert run.ended_at is not None
        for before, after in zip(lines, lines[1:], strict=False):
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
                not [r for r in load_records(self.home.site / "attempts") if r.kept_until is None]
            ),
            "the attempts' folders are removed",
        )


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """A real signal; returns when a killed process is gone."""
    process = psutil.Process(pid)
    process.send_signal(number)
    if number == signal.SIGKILL:
        wait_for(
            lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE,
            f"{pid} is gone",
        )
