"""The main job as its user does it: through the command line, on a network of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tesra.kit.settings import default_cache

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parent.parent.parent
DIGITS = ROOT / "examples" / "pytorch-digits"
SOURCES = ROOT / "src"
MARK = "NETWORK_UNDER_TEST"  # a name that the site does not take from Ray's environment
TRAIN = ("--engine", "pytorch", "--entry", "train.py", "--output", "out", "--devices", "2")
END_S = 30


class CommandLine:
    """The ``tesra`` command with an environment of its own."""

    def __init__(self, home: Path, **environ: str) -> None:
        self.home = home
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TESRA_")}
        self.environ = kept | {
            "TESRA_HOME": str(home),
            "TESRA_CACHE": str(default_cache()),
            "PYTHONPATH": str(SOURCES),
            MARK: home.name,
            **environ,
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tesra.app.main", *arguments],
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )

    def done(self, *arguments: str) -> str:
        """What a command printed that had to succeed."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"tesra {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def ask(self, *arguments: str) -> Any:
        return json.loads(self.done(*arguments, "--json"))

    def pids(self) -> dict[str, int | None]:
        return {row["name"]: row["pid"] for row in self.ask("status")["processes"]}


def processes_of(home: Path) -> list[str]:
    """Every live process that was started for this home, however indirectly."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            ours = str(home) in command or process.environ().get(MARK) == home.name
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {command[:200]}")
        except psutil.Error:
            continue
    return found


def wait_until_gone(home: Path) -> list[str]:
    """What is left of the network when it had time enough to end."""
    deadline = time.monotonic() + END_S
    while (left := processes_of(home)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


@pytest.fixture(scope="module")
def tesra() -> Iterator[CommandLine]:
    home = Path(tempfile.mkdtemp(prefix="tesra-e2e-"))
    commands = CommandLine(home)
    try:
        commands.done("up", "--port", "0", "--devices", "2", "--detach")
        yield commands
        commands.done("down")
        assert wait_until_gone(home) == []
        assert set(commands.pids().values()) == {None}
    finally:
        commands.run("down")
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def ann(tesra: CommandLine) -> CommandLine:
    """A user who has just registered."""
    url = tesra.ask("status")["url"]
    account = tesra.ask("register", "--name", "ann", "--password", "a long secret of ann's")
    return CommandLine(tesra.home, TESRA_URL=url, TESRA_TOKEN=account["token"])


def test_project_is_trained_billed_paid_and_its_model_downloaded(
    ann: CommandLine, tmp_path: Path
) -> None:
    log = ann.done("run", str(DIGITS), *TRAIN, "--follow", "--", "--epochs", "6")
    assert "epoch 6/6" in log
    assert float(log.rpartition("accuracy ")[2].split()[0]) >= 0.9

    (run,) = ann.ask("runs")
    record = ann.ask("show", run["id"])
    assert (record["state"], record["devices"], record["exit_code"]) == ("succeeded", 2, 0)
    assert record["output"] is not None

    (bill,) = ann.ask("bills")
    assert (bill["id"], bill["run"], bill["state"]) == (record["bill"], run["id"], "unpaid")
    assert float(bill["amount_cny"]) > 0

    refused = ann.run("run", str(DIGITS), *TRAIN, "--detach")
    assert refused.returncode == 1
    assert bill["id"] in refused.stderr

    ann.done("pay", bill["id"])
    assert [row["state"] for row in ann.ask("bills")] == ["paid"]

    ann.done("download", run["id"], str(tmp_path / "model"))
    (model,) = (tmp_path / "model").rglob("model.pt")
    assert model.stat().st_size > 10_000


def test_second_up_starts_only_what_is_missing_at_the_same_address(
    tesra: CommandLine, ann: CommandLine
) -> None:
    before, url = tesra.pids(), tesra.ask("status")["url"]
    assert before["server"] is not None
    os.kill(before["server"], signal.SIGKILL)

    again = tesra.ask("up", "--detach")

    after = tesra.pids()
    assert (again["url"], again["started"]) == (url, ["server"])
    assert (after["site"], after["postgres"]) == (before["site"], before["postgres"])
    assert ann.ask("whoami")["name"] == "ann"


def test_other_port_is_refused_while_the_network_runs(tesra: CommandLine) -> None:
    refused = tesra.run("up", "--detach", "--port", "1")
    assert refused.returncode == 1
    assert "tesra down" in refused.stderr
