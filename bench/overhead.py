"""Wall time of a training of a minute: inside Tesra over bare, in the same environment.

Both train at the same time, so that whatever else the machine does slows both alike; what is
told beside it says how it went in two rounds.
"""

import re
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench._harness import (
    Network,
    engine_python,
    network,
    project,
    report,
    run_bench,
    seconds_between,
)

FIGURE = "training_overhead_ratio"
TARGET = 1.03
TRAINING_S = 60.0
PROBE_STEPS = 200
ROUNDS = 2
SCRIPT = """
import sys, time
import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
images, labels = torch.randn(512, 256), torch.randint(0, 10, (512,))
steps = int(sys.argv[1])
began, cpu_began = time.monotonic(), time.process_time()
for step in range(steps):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    if step % 20 == 0:
        print(f"step {step} loss {loss.item():.4f}", flush=True)
print(f"trained_s {time.monotonic() - began:.3f}", flush=True)
print(f"cpu_s {time.process_time() - cpu_began:.3f}", flush=True)
"""


def measure() -> None:
    with network(devices=1) as net, project(SCRIPT) as folder:
        net.finish_run(net.start_run(folder, "--devices", "1", "--", str(1)))
        python = engine_python()
        probe_s = told_s("trained_s", bare_output(python, folder, PROBE_STEPS))
        steps = int(PROBE_STEPS * TRAINING_S / probe_s)
        rounds = [side_by_side(net, python, folder, steps) for _ in range(ROUNDS)]
    ratios = [one.inside_s / one.bare_s for one in rounds]
    report(
        FIGURE,
        round(statistics.mean(ratios), 4),
        target=TARGET,
        versus={
            "inside_s": [round(one.inside_s, 2) for one in rounds],
            "bare_s": [round(one.bare_s, 2) for one in rounds],
            "training_alone_ratio": [round(one.training_ratio, 4) for one in rounds],
            "cpu_time_ratio": [round(one.cpu_ratio, 4) for one in rounds],
            "steps": steps,
        },
    )


@dataclass(frozen=True)
class Round:
    """Wall times from start to end, and how the loops alone compare."""

    inside_s: float
    bare_s: float
    training_ratio: float
    cpu_ratio: float


def side_by_side(net: Network, python: str, folder: Path, steps: int) -> Round:
    with ThreadPoolExecutor(1) as thread:
        bare = thread.submit(timed_bare, python, folder, steps)
        run = net.start_run(folder, "--devices", "1", "--", str(steps))
        record = net.finish_run(run)
        bare_s, bare_said = bare.result()
    output = net.output_of(run)
    return Round(
        inside_s=seconds_between(record["created_at"], record["ended_at"]),
        bare_s=bare_s,
        training_ratio=told_s("trained_s", output) / told_s("trained_s", bare_said),
        cpu_ratio=told_s("cpu_s", output) / told_s("cpu_s", bare_said),
    )


def timed_bare(python: str, folder: Path, steps: int) -> tuple[float, str]:
    """Wall time of the process, and what it printed."""
    began = time.monotonic()
    output = bare_output(python, folder, steps)
    return time.monotonic() - began, output


def bare_output(python: str, folder: Path, steps: int) -> str:
    command = [python, "train.py", str(steps)]
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,  # as a run has one: the kernel shares out by session
    )
    return done.stdout


def told_s(name: str, output: str) -> float:
    return float(re.findall(rf"{name} ([\d.]+)", output)[-1])


if __name__ == "__main__":
    run_bench(measure, FIGURE, TARGET)
