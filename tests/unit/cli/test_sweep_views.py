"""A sweep as it is shown, and how its command is told from those beside it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from tesra.cli import sweeping
from tesra.cli.main import build_cli
from tesra.wire.sweeps import Sweep, Trial

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def trial(number: int, state: str = "completed", value: float | None = None, **more: Any) -> Trial:
    fields = {
        "number": number,
        "run": f"run_{number}",
        "rank": None,
        "state": state,
        "run_state": "succeeded",
        "params": {"lr": 0.0123456789},
        "value": value,
        "step": None,
        "reason": None,
        "th": "0",
        "cost_cny": "0",
        "output": None,
        "started_at": None,
        "ended_at": None,
    }
    return Trial(**(fields | more))


def sweep(mode: str = "min", **more: Any) -> Sweep:
    fields = {
        "id": "swp_1",
        "project": "prj_1",
        "project_name": "digits",
        "snapshot": "snp_1",
        "state": "running",
        "reason": None,
        "notes": [],
        "space": {"lr": "uniform(0,1)"},
        "params": {},
        "metric": "loss",
        "mode": mode,
        "objective": "best",
        "algorithm": "tpe",
        "trials": 5,
        "parallel": 2,
        "seed": 1,
        "max_cost_cny": None,
        "counts": {"completed": 3, "running": 1, "failed": 0},
        "best": None,
        "bill": None,
        "bills": [],
        "amount_cny": "0",
        "th": "0",
        "created_at": NOW,
        "ended_at": None,
    }
    return Sweep(**(fields | more))


TRIALS = [trial(1, value=3.0), trial(2, "failed"), trial(3, value=4.0), trial(4, value=1.0)]


@pytest.mark.parametrize(
    ("mode", "ranks", "history"),
    [
        ("min", [4, 1, 3, 2], [(1, 3.0), (3, 3.0), (4, 1.0)]),
        ("max", [3, 1, 4, 2], [(1, 3.0), (3, 4.0), (4, 4.0)]),
    ],
)
def test_the_best_comes_first_and_the_history_only_gets_better(
    mode: str, ranks: list[int], history: list[tuple[int, float]]
) -> None:
    assert [one.number for one in sweeping.ranked(TRIALS, sweep(mode))] == ranks
    assert sweeping.best_so_far(sweep(mode), TRIALS) == history


def test_a_row_has_a_cell_for_each_header() -> None:
    row = sweeping.trial_row(sweep(), trial(1, "running", run_state="queued"))
    assert len(row) == len(sweeping.headers(sweep()))
    assert row[2:5] == ["queued", "0.0123457", "-"]


def test_facts_say_how_far_it_is() -> None:
    assert dict(sweeping.facts(sweep()))["Trials"] == "4 of 5 (3 completed, 1 running)"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["sweep", ".", "--metric", "loss"], "No --param has a range"),
        (["sweep", "--metric", "loss", "-p", "lr=uniform(0,x)", "."], "at character 11"),
        (["sweep", "show", "--limit", "0", "last"], "Invalid value for '--limit'"),
        (["sweep", "resume", "last", "--trials", "-3"], "not a number of trials"),
    ],
)
def test_what_is_no_command_of_the_group_begins_a_sweep(
    arguments: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tesra.cli.commands.sweep.find_sweep", lambda client, text: sweep())
    monkeypatch.setenv("TESRA_TOKEN", "tsr_x")
    monkeypatch.setenv("TESRA_URL", "http://127.0.0.1:9")
    done = CliRunner().invoke(build_cli(), arguments)
    assert done.exit_code in {1, 2}
    assert complaint in " ".join(done.output.split())
