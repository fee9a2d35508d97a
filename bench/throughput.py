"""Two-rank PyTorch training: samples a second inside Tesra over bare ``torchrun``, same environment.

Both train at the same time and count the same seconds, so that whatever else the machine does slows
both alike; each round gives one ratio, and their median is the figure.
"""

import re
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench._harness import (
    BenchFailed,
    Network,
    network,
    project,
    python_of,
    report,
    run_bench,
)

FIGURE = "two_rank_throughput_ratio"
TARGET = 0.97
ROUNDS = 6
SECONDS = 10.0
AHEAD_S = 14.0  # until both train
SCRIPT = """
import os, sys, time
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

torch.set_num_threads(1)
torch.manual_seed(0)
dist.init_process_group("gloo")
model = DistributedDataParallel(
    nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
images, labels = torch.randn(128, 256), torch.randint(0, 10, (128,))


def step():
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss


seconds, starts = float(sys.argv[1]), float(sys.argv[2])
going = torch.ones(1)


def train_for(seconds):
    began, told, steps = time.monotonic(), time.monotonic(), 0
    going.fill_(1)
    while going.item():
        for _ in range(10):
            loss = step()
        steps += 10
        now = time.monotonic()
        going.fill_(float(now - began < seconds))
        dist.broadcast(going, 0)  # both ranks leave after the same step
        if dist.get_rank() == 0 and now - told > 1:
            told = now
            print(f"step {steps} loss {loss.item():.4f}", flush=True)
    return steps, time.monotonic() - began


train_for(max(0.1, starts - time.time()))
cpu_began = time.process_time()
steps, took = train_for(seconds)
cpu_us = (time.process_time() - cpu_began) / steps * 1e6
if dist.get_rank() == 0:
    samples = steps * len(images) * dist.get_world_size()
    print(f"samples_per_s {samples / took:.1f} cpu_us_per_step {cpu_us:.0f}", flush=True)
dist.barrier()
os._exit(0)  # gloo's threads abort now and then while an interpreter ends
"""


@dataclass(frozen=True)
class Turn:
    """What one training reached."""

    samples_per_s: float
    cpu_us_per_step: float


def measure() -> None:
    with network(devices=2) as net, project(SCRIPT) as folder:
        run = start(net, folder, 0.5, starts=time.time())  # builds the environment
        python = python_of(net.finish_run(run)["environment_lock"])
        rounds = [side_by_side(net, python, folder) for _ in range(ROUNDS)]
    ratios = [ours.samples_per_s / bare.samples_per_s for ours, bare in rounds]
    report(
        FIGURE,
        round(statistics.median(ratios), 4),
        target=TARGET,
        at_least=True,
        versus={
            "inside_samples_per_s": [round(ours.samples_per_s) for ours, _ in rounds],
            "torchrun_samples_per_s": [round(bare.samples_per_s) for _, bare in rounds],
            "ratios": [round(ratio, 3) for ratio in ratios],
            "cpu_us_per_step": {
                "inside": statistics.median(ours.cpu_us_per_step for ours, _ in rounds),
                "torchrun": statistics.median(bare.cpu_us_per_step for _, bare in rounds),
            },
        },
    )


def side_by_side(net: Network, python: str, folder: Path) -> tuple[Turn, Turn]:
    """What both reach in the same seconds: inside, and bare."""
    starts = time.time() + AHEAD_S
    with ThreadPoolExecutor(1) as thread:
        bare = thread.submit(under_torchrun, python, folder, starts)
        run = start(net, folder, SECONDS, starts=starts)
        net.finish_run(run)
        return told(net.output_of(run)), bare.result()


def start(net: Network, folder: Path, seconds: float, *, starts: float) -> str:
    words = ("--engine", "pytorch", "--output", "out", "--devices", "2")
    return net.start_run(folder, *words, "--", str(seconds), str(starts))


def under_torchrun(python: str, folder: Path, starts: float) -> Turn:
    starting = [python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*starting, "train.py", str(SECONDS), str(starts)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,  # as a run has one: the kernel shares out by session
    )
    if done.returncode:
        raise BenchFailed(f"torchrun: {done.stderr.strip()[-800:]}")
    return told(done.stdout)


def told(output: str) -> Turn:
    samples, cpu = re.findall(r"samples_per_s ([\d.]+) cpu_us_per_step (\d+)", output)[-1]
    return Turn(float(samples), float(cpu))


if __name__ == "__main__":
    run_bench(measure, FIGURE, TARGET)
