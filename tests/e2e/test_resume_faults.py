"""A training whose node is killed in the middle goes on from its checkpoint, and each step is paid for once."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from factories.fault_network import FaultNetwork, kill, wait_for
from tesra.sdk.client import Client, LiveRun

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

# Momentum and a generator's state: whoever begins anew, or a step off, has another loss.
TRAINING = """
import json, os, random, time
from pathlib import Path
import tesra

state = {"step": 0, "weights": [1.0, -2.0, 0.5], "momentum": [0.0, 0.0, 0.0]}
numbers = random.Random(0)
if tesra.resume_from:
    print("goes on from", tesra.resume_from.name, flush=True)
    saved = json.loads(tesra.resume_from.read_text())
    kind, inner, gauss = saved.pop("random")
    numbers.setstate((kind, tuple(inner), gauss))
    state = saved

def save():
    if os.environ.get("RANK", "0") != "0":
        return
    draft = tesra.checkpoint_dir / "draft"
    draft.write_text(json.dumps({**state, "random": numbers.getstate()}))
    draft.rename(tesra.checkpoint_dir / "state.json")

while state["step"] < STEPS and not tesra.stopping:
    point = [numbers.uniform(-1, 1) for _ in range(3)]
    error = sum(w * x for w, x in zip(state["weights"], point)) - sum(point)
    for place in range(3):
        state["momentum"][place] = 0.9 * state["momentum"][place] + error * point[place]
        state["weights"][place] -= 0.02 * state["momentum"][place]
    state["step"] += 1
    print(f"step {state['step']} loss {error * error!r}", flush=True)
    save()
    time.sleep(PAUSE_S)
save()
tesra.output_dir.joinpath("model.json").write_text(json.dumps(state))
"""
STEPS = 100
STEP = re.compile(r"step (\d+) loss (\S+)")


def source(pause_s: float) -> str:
    return TRAINING.replace("STEPS", str(STEPS)).replace("PAUSE_S", str(pause_s))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """The loss of each step when nothing happens: the same script, run bare."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "train.py").write_text(source(0))
    done = subprocess.run(
        [sys.executable, "train.py"], cwd=folder, capture_output=True, text=True, check=True
    )
    losses = {int(step): loss for step, loss in STEP.findall(done.stdout)}
    assert len(losses) == STEPS
    return losses


@pytest.fixture(scope="module")
def network() -> Iterator[FaultNetwork]:
    network = FaultNetwork(nodes=2)
    try:
        network.up()
        yield network
        network.down()
    finally:
        network.remove()


@pytest.fixture(scope="module")
def ann(network: FaultNetwork) -> Client:
    return network.user("trainer", source(0.08))


def begin(network: FaultNetwork, ann: Client, *, devices: int = 1) -> LiveRun:
    run = network.submit(ann, devices=devices, checkpoint_every_s=1)
    wait_for(lambda: ann.checkpoints(run.id), "a checkpoint is stored")
    seen = last_step(network, run, 1)
    wait_for(lambda: last_step(network, run, 1) > seen + 10, "it has gone on since")
    return run


def steps(network: FaultNetwork, run: LiveRun, attempt: int) -> dict[int, str]:
    text = "\n".join(network.heard(run)[attempt, 0])
    return {int(step): loss for step, loss in STEP.findall(text)}


def last_step(network: FaultNetwork, run: LiveRun, attempt: int) -> int:
    return max(steps(network, run, attempt), default=0)


def billed_ms(ann: Client, run: LiveRun) -> dict[int, int]:
    """Of each attempt."""
    bill = run.refresh().bill
    assert bill is not None
    return {line.attempt: line.duration_ms for line in ann.bill(bill).lines}


def tesra(network: FaultNetwork, client: Client, *arguments: str) -> str:
    """The command line of a user."""
    return subprocess.run(
        [sys.executable, "-m", "tesra.app.main", *arguments],
        env=network.environ | {"TESRA_URL": client.url, "TESRA_TOKEN": str(client.token)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize("whole_node", [False, True], ids=["agent", "node"])
def test_the_loss_goes_on_from_where_it_was_when_the_node_is_killed(
    network: FaultNetwork, ann: Client, unbroken: dict[int, str], whole_node: bool
) -> None:
    run = begin(network, ann, devices=2 if whole_node else 1)
    if whole_node:
        network.kill_node(1)
    else:
        kill(network.ray_pid("ray::NodeAgent"))
    now = network.ended(run)
    assert (now.state, now.attempt, now.restarts) == ("succeeded", 2, 1)
    first, second = steps(network, run, 1), steps(network, run, 2)
    assert network.heard(run)[2, 0][0] == "goes on from state.json"
    begun_again = min(second)
    assert 1 < begun_again <= max(first) + 1, "no step between is missing"
    done = {step: loss for step, loss in first.items() if step < begun_again} | second
    assert done == unbroken, "each loss is that of a run that nothing happened to"
    events = [event.text for event in ann.events(run.id) if event.kind == "queued"]
    assert re.match(r"Queued again from checkpoint \d+:", events[1])
    check_bill(ann, run, begun_again)


def check_bill(ann: Client, run: LiveRun, begun_again: int) -> None:
    """The first attempt is billed up to its checkpoint, which is where the second began."""
    bill = run.refresh().bill
    assert bill is not None
    by_attempt = {line.attempt: line for line in ann.bill(bill).lines}
    assert by_attempt.keys() == {1, 2}
    first, second = by_attempt[1], by_attempt[2]
    assert ", up to its checkpoint at 00:00:" in first.explanation
    running = [event.at for event in ann.events(run.id) if event.kind == "running"]
    ended = run.refresh().ended_at
    assert ended is not None
    wall_ms = (ended - running[1]).total_seconds() * 1000
    assert second.duration_ms <= wall_ms + 2000
    assert first.duration_ms <= (begun_again - 1) * 300, "not what came after the checkpoint"


def test_a_stopped_run_saves_a_last_time_and_is_resumed_by_hand(
    network: FaultNetwork, ann: Client, unbroken: dict[int, str], tmp_path: Path
) -> None:
    run = begin(network, ann)
    ann.stop(run.id)
    stopped = network.ended(run)
    assert (stopped.state, stopped.exit_code) == ("stopped", None)
    reached = last_step(network, run, 1)
    newest = json.loads(tesra(network, ann, "checkpoints", run.id, "--json"))[0]
    assert newest["state"] == "kept"
    number, folder = newest["number"], tmp_path / "checkpoint"
    tesra(network, ann, "download", run.id, str(folder), "--checkpoint", str(number))
    saved = json.loads((folder / "checkpoints/state.json").read_text())
    assert saved["step"] == reached, "what it saved after SIGTERM is in its last checkpoint"
    resumed = ann.show(tesra(network, ann, "resume", run.id, "--detach").strip())
    ended = network.ended(resumed)
    assert ended.state == "succeeded"
    assert ended.resumed_from is not None
    assert (ended.resumed_from.run, ended.resumed_from.checkpoint) == (run.id, number)
    second = steps(network, resumed, 1)
    assert min(second) == reached + 1
    assert steps(network, run, 1) | second == unbroken
    assert billed_ms(ann, resumed).keys() == {1}
