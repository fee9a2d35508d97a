"""The main job as its user does it: through the command line, on a network of its own."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from factories.command_line import CommandLine, Person

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parent.parent.parent
DIGITS = ROOT / "examples" / "pytorch-digits"
TRAIN = ("--engine", "pytorch", "--entry", "train.py", "--output", "out", "--devices", "2")


@pytest.fixture(scope="module")
def ann(new_person: Callable[[], Person]) -> CommandLine:
    """A user who has just registered."""
    return new_person().commands


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
    assert ann.ask("whoami")["url"] == url


def test_other_port_is_refused_while_the_network_runs(tesra: CommandLine) -> None:
    refused = tesra.run("up", "--detach", "--port", "1")
    assert refused.returncode == 1
    assert "tesra down" in refused.stderr
