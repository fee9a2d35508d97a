"""Sweeps on the real network, from the command line."""

import os
import signal
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from factories.command_line import CommandLine, Person
from factories.fault_network import wait_for

pytestmark = pytest.mark.e2e

# Its loss is its parameter; it goes down by a little, so that the best value is the last one.
STEADY = """
import argparse, pathlib, time
parser = argparse.ArgumentParser()
parser.add_argument("--x", type=float)
parser.add_argument("--steps", type=int, default=5)
given = parser.parse_args()
for step in range(1, given.steps + 1):
    print(f"step {step} loss {given.x - step / 10000:.6f}", flush=True)
    time.sleep(0.1)
pathlib.Path("out").mkdir(exist_ok=True)
pathlib.Path("out", "x.txt").write_text(str(given.x))
"""


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def trials_of(person: Person, sweep: str) -> list[dict[str, Any]]:
    ranking = person.commands.ask("sweep", "show", sweep)["ranking"]
    return sorted(ranking, key=lambda trial: trial["number"])


def test_a_sweep_is_watched_shown_billed_and_its_best_model_downloaded(
    ann: Person, tmp_path: Path
) -> None:
    folder = ann.project(STEADY, folder="steady")
    told = ann.commands.run(
        *("sweep", folder, "--entry", "train.py", "--param", "x=choice(0.5,0.2,0.9)"),
        *("--metric", "loss", "--algorithm", "grid", "--parallel", "3"),
    )
    assert told.returncode == 0, told.stderr
    assert "trial 2 (x=0.2): loss 0.1995" in told.stderr
    assert "3 trials at a time need 3 devices, and 2 are online" in told.stderr
    shown = ann.commands.done("sweep", "show", "last")
    ranks = [line.split()[:2] for line in shown.splitlines() if " completed " in line]
    assert ranks == [["1", "2"], ["2", "1"], ["3", "3"]]
    assert "the best so far" in shown
    bill = ann.commands.ask("bill", ann.commands.ask("sweep", "show", "last")["bill"])
    assert [line["trial"] for line in bill["lines"]] == [1, 2, 3]
    assert bill["state"] == "paid"
    ann.commands.done("download", "last", str(tmp_path / "best"), "--best")
    assert (tmp_path / "best" / "x.txt").read_text() == "0.2"


def test_asha_frees_the_devices_of_what_is_not_promising(ann: Person) -> None:
    folder = ann.project(STEADY, folder="steady")
    steps = 60
    begun = ann.commands.ask(
        *("sweep", folder, "--entry", "train.py", "--param", "x=uniform(0,1)"),
        *("--param", f"steps={steps}", "--metric", "loss", "--algorithm", "asha", "--seed", "4"),
        *("--trials", "6", "--parallel", "2", "--detach"),
    )
    ann.commands.done("sweep", "watch", begun["sweep"])
    trials = trials_of(ann, begun["sweep"])
    assert len(trials) == 6
    pruned = [trial for trial in trials if trial["state"] == "pruned"]
    completed = [trial for trial in trials if trial["state"] == "completed"]
    assert pruned
    assert completed
    assert len(pruned) + len(completed) == 6
    for trial in pruned:
        assert trial["reason"].startswith("Stopped early by ASHA at step ")
        assert trial["step"] < steps
        assert trial["value"] > min(one["value"] for one in completed)
    spans = {one["number"]: (at(one["started_at"]), at(one["ended_at"])) for one in trials}
    full_s = min(_seconds(spans[one["number"]]) for one in completed)
    used_s = sum(_seconds(span) for span in spans.values())
    assert used_s < 0.8 * 6 * full_s
    assert any(_taken_over(spans, one["number"]) for one in pruned)


def _seconds(span: tuple[datetime, datetime]) -> float:
    return (span[1] - span[0]).total_seconds()


def _taken_over(spans: dict[int, tuple[datetime, datetime]], pruned: int) -> bool:
    """A later trial began on the freed device while the other device was still at the same work."""
    freed = spans[pruned][1]
    return any(
        begun >= freed and any(first < freed and last > begun for first, last in spans.values())
        for begun, _ in spans.values()
    )


def test_a_killed_server_loses_no_trial_and_doubles_none(ann: Person, tesra: CommandLine) -> None:
    folder = ann.project(STEADY, folder="steady")
    sweep = ann.commands.ask(
        *("sweep", folder, "--entry", "train.py", "--param", "x=uniform(0,1)"),
        *("--metric", "loss:min", "--trials", "6", "--parallel", "2", "--detach"),
    )["sweep"]

    def ended() -> int:
        return sum(trial["state"] == "completed" for trial in trials_of(ann, sweep))

    wait_for(lambda: ended() >= 1, "a trial has ended")
    server = tesra.pids()["server"]
    assert server is not None
    os.kill(server, signal.SIGKILL)
    tesra.done("up", "--detach")
    wait_for(lambda: ended() == 6, "all trials have ended", 60)
    done = ann.commands.ask("sweep", "show", sweep)
    wait_for(lambda: ann.commands.ask("sweep", "show", sweep)["bill"], "the bill is made")
    done = ann.commands.ask("sweep", "show", sweep)
    assert (done["state"], len(done["bills"])) == ("finished", 1)
    trials = trials_of(ann, sweep)
    assert [trial["number"] for trial in trials] == [1, 2, 3, 4, 5, 6]
    runs = ann.commands.ask("runs", "--sweep", sweep)
    assert {run["run"] for run in runs} == {trial["run"] for trial in trials}
    assert len(runs) == 6
    bill = ann.commands.ask("bill", done["bill"])
    assert sorted({line["run"] for line in bill["lines"]}) == sorted(run["run"] for run in runs)
