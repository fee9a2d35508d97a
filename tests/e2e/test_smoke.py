"""The first seconds of a script, free of charge, on a real node."""

import pytest

from factories.command_line import Person

pytestmark = [pytest.mark.site, pytest.mark.e2e]

WELL = """
import os
assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
os.makedirs("out", exist_ok=True)
open("out/model", "w").write("weights")
for epoch in range(3):
    print("epoch", epoch, flush=True)
"""
BAD = "import this_is_nowhere\n"


def test_smoke_passes_before_the_run_and_is_free(ann: Person) -> None:
    trained = ann.train(WELL, "--smoke")
    assert "ran to its end without an error" in trained.told
    assert (trained.record["state"], trained.record["smoke"]) == ("succeeded", False)
    assert trained.record["bill"] is not None
    smoke = next(run for run in ann.commands.ask("runs") if run["smoke"])
    assert (smoke["state"], smoke["bill"], smoke["output"]) == ("succeeded", None, None)
    assert "(smoke)" in ann.commands.done("runs")


def test_smoke_that_fails_says_why_and_nothing_is_run(ann: Person) -> None:
    before = len(ann.commands.ask("runs"))
    failed = ann.commands.run(
        "run", ann.project(BAD, folder="坏"), "--smoke", "--entry", "train.py"
    )
    assert failed.returncode == 1
    assert "Hint: name its package" in failed.stderr
    assert len(ann.commands.ask("runs")) == before + 1  # the smoke run alone
    asked = ann.commands.run("doctor", ann.project(BAD, folder="坏"), "--smoke")
    assert asked.returncode == 1
    assert "Engine:" in asked.stdout
