"""A job that is tuned while it runs, and rolled back, as its user does it."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from factories.command_line import Person
from tesra.sdk.client import Client

pytestmark = [pytest.mark.site, pytest.mark.e2e]

# Two ranks, not in lock step; tells what each has for which steps. Ends when lr is 1.
SCRIPT = """
import json, os, pathlib, time, tesra
rank = int(os.environ["RANK"])
state = pathlib.Path(os.environ["TESRA_CHECKPOINT_DIR"], "state")
done = json.loads(state.read_text()) if os.environ.get("TESRA_RESUME_FROM") else 0
print(json.dumps(["from", done, tesra.params.lr]), flush=True)
last, steps = tesra.params.lr, 0
while last != 1.0:
    time.sleep([0.002, 0.003][rank])
    steps, done = tesra.step(), done + 1
    if tesra.params.lr != last:
        last = tesra.params.lr
        print(json.dumps(["step", steps + 1, last]), flush=True)
    if rank == 0 and done % 100 == 0:
        state.with_name("new").write_text(json.dumps(done))
        state.with_name("new").rename(state)
pathlib.Path("out").mkdir(exist_ok=True)
pathlib.Path("out", "model").write_text("weights")
"""


def until(condition: Callable[[], Any], timeout_s: float = 60) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)
    return found


def test_job_is_tuned_while_it_runs_and_rolled_back_to_before(ann: Person) -> None:
    tell = ann.commands
    with Client(tell.environ["TESRA_URL"], ann.token) as client:
        project = client.import_project(ann.project(SCRIPT, folder="调参"))
        run = client.run(
            project.id,
            "train.py",
            engine="pytorch",
            devices=2,
            launch="gang",
            params={"lr": 0.1},
            ranges={"lr": {"low": 1e-5, "high": 1.0}},
            param_format="none",
            checkpoint_every_s=1,
        ).id
    assert "takes a number, not 'nan'" in tell.refused("tune", run, "lr=nan")
    assert "out of its range 1e-05..1" in tell.refused("tune", run, "lr=2")
    assert "What can be changed: lr" in tell.refused("tune", run, "width=2")
    until(lambda: tell.ask("show", run)["state"] == "running")
    assert "No change of this run has been made" in tell.refused("tune", run, "--rollback")
    until(lambda: '"from"' in tell.done("logs", run))
    until(lambda: tell.ask("checkpoints", run))
    said = tell.done("tune", run, "lr=0.01")
    assert said.startswith("lr=0.01: made at step ")
    assert said.endswith(" on 2 ranks.\n")
    (change,) = tell.ask("tune", run)["changes"]
    assert {took["step"] for took in change["ranks"]} == {change["step"]}
    assert "Rolled back to checkpoint " in tell.done("tune", run, "--rollback")
    until(lambda: tell.ask("show", run)["attempt"] == 2)
    until(lambda: tell.ask("show", run)["state"] == "running")
    tell.done("tune", run, "lr=1.0")
    until(lambda: tell.ask("show", run)["state"] == "succeeded")
    lines = [json.loads(line) for line in tell.done("logs", run, "--rank", "0").splitlines()]
    assert lines[0] == ["from", 0, 0.1]
    assert lines[1] == ["step", change["step"], 0.01]
    (kind, done, rate), last = lines[-2:]
    assert (kind, rate, last[2]) == ("from", 0.1, 1.0)
    assert done > 0
    states = [one["state"] for one in tell.ask("tune", run)["changes"]]
    assert states == ["rolled_back", "applied"]
    assert "nothing of it can be changed any more" in tell.refused("tune", run, "lr=0.1")
    shown = tell.done("tune", run)
    assert "1e-05..1" in shown
    assert "tesra.params" in shown
