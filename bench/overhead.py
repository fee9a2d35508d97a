"""Wall time of a training of a minute: inside Tesra over bare, in the same environment."""

import re
import subprocess
import time
from pathlib import Path

from bench._harness import engine_python, network, project, report, run_bench, seconds_between

FIGURE = "training_overhead_ratio"
TARGET = 1.03
TRAINING_S = 60.0
PROBE_STEPS = 200
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
began = time.monotonic()
for step in range(steps):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    if step % 20 == 0:
        print(f"step {step} loss {loss.item():.4f}", flush=True)
print(f"trained_s {time.monotonic() - began:.3f}", flush=True)
"""


def measure() -> None:
    with network(devices=1) as net, project(SCRIPT) as folder:
        net.finish_run(net.start_run(folder, "--devices", "1", "--", str(1)))
        python = engine_python()
        steps = int(PROBE_STEPS * TRAINING_S / trained_s(bare_output(python, folder, PROBE_STEPS)))
        before_s, before = timed_bare(python, folder, steps)
        run = net.start_run(folder, "--devices", "1", "--", str(steps))
        record = net.finish_run(run)
        inside = trained_s(net.output_of(run))
        after_s, after = timed_bare(python, folder, steps)
    inside_s = seconds_between(record["created_at"], record["ended_at"])
    bare_s = (before_s + after_s) / 2
    report(
        FIGURE,
        round(inside_s / bare_s, 4),
        target=TARGET,
        versus={
            "inside_s": round(inside_s, 2),
            "bare_s": [round(before_s, 2), round(after_s, 2)],
            "training_alone_ratio": round(inside / ((before + after) / 2), 4),
            "steps": steps,
        },
    )


def timed_bare(python: str, folder: Path, steps: int) -> tuple[float, float]:
    """Wall time of the process, and of its training alone."""
    began = time.monotonic()
    output = bare_output(python, folder, steps)
    return time.monotonic() - began, trained_s(output)


def bare_output(python: str, folder: Path, steps: int) -> str:
    command = [python, "train.py", str(steps)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def trained_s(output: str) -> float:
    return float(re.findall(r"trained_s ([\d.]+)", output)[-1])


if __name__ == "__main__":
    run_bench(measure, FIGURE, TARGET)
