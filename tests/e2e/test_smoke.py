"""The first seconds of a script, free of charge, on a real node."""

import pytest

from factories.command_line import Person
from tesra import Client
from tesra.kit.errors import Invalid

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


def test_requirements_that_cannot_be_met_cost_nothing_and_the_node_lives(ann: Person) -> None:
    failed = ann.train(WELL, "--with", "six==999.0")
    record = failed.record
    assert (record["state"], record["started_at"]) == ("failed", None)
    assert "six==999.0" in record["reason"]  # uv's own words
    assert record["amount_cny"] == "0.00"
    assert ann.train(WELL).record["state"] == "succeeded"


def test_two_candidates_and_an_unknown_parameter_are_told_over_rest_too(ann: Person) -> None:
    code = "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr')\n"
    loop = "args = p.parse_args()\nimport torch\nfor _ in []: loss.backward()\n"
    folder = ann.project(code + loop, folder="两个")
    with Client(token=ann.token, url=ann.commands.environ["TESRA_URL"]) as client:
        project = client.import_project(folder).id
        run = client.run(project, params={"lrr": 0.1})
        assert run.warnings == ["parameter lrr: train.py declares no --lrr; did you mean --lr?"]
        assert client.wait(run.id, 60).state == "failed"  # argparse refuses it
        ann.project(code + loop, name="finetune.py", folder="两个")
        ann.project(code + loop, name="main.py", folder="两个")
        with pytest.raises(Invalid) as refused:
            client.run(client.import_project(folder).id)
        assert len(refused.value.fields["candidates"]) > 1
