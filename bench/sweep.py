"""200 trials that do nothing but report a number, on a real network of this machine.

Beside it, in the same network: the same 200 runs without a sweep, queued at once; and how long
the machine itself takes for 200 bare processes of the same script. And the CPU time of a trial by
part of the network, which another load on the machine hardly changes.
"""

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from bench._harness import (
    BenchFailed,
    cpu_seconds_by_part,
    engine_python,
    network,
    project,
    report,
    run_bench,
)

from tesra.sdk.client import Client

FIGURE = "sweep_trials_per_s"
TARGET = 20.0
TRIALS = 200
DEVICES = 16
PARALLEL = 32  # the next ones wait in the queue: a device that is free is never idle
DEADLINE_S = 300.0
SCRIPT = "import sys\nprint('step 1 loss', sys.argv[-1])\n"


def measure() -> None:
    with network(devices=DEVICES) as net, project(SCRIPT) as folder:
        net.finish_run(net.start_run(folder, "--param", "x=1"))  # builds the environment
        client = Client(net.environ["TESRA_URL"], net.environ["TESRA_TOKEN"])
        before = cpu_seconds_by_part(net)
        swept = as_a_sweep(client, folder.name)
        after = cpu_seconds_by_part(net)
        alone = as_runs(client, folder.name)
        bare = as_processes(engine_python(), folder)
    report(
        FIGURE,
        round(TRIALS / swept, 1),
        target=TARGET,
        at_least=True,
        versus={
            "trials": TRIALS,
            "devices": DEVICES,
            "seconds": round(swept, 2),
            "without_a_sweep_per_s": round(TRIALS / alone, 1),
            "bare_processes_per_s": round(TRIALS / bare, 1),
            "cpu_ms_per_trial": {
                part: round((after[part] - before.get(part, 0.0)) / TRIALS * 1000, 1)
                for part in after
            },
        },
    )


def as_a_sweep(client: Client, name: str) -> float:
    """Seconds from its acceptance to its bill, by the database's clock."""
    begun = client.sweep(
        name,
        {"x": "uniform(0,1)"},
        "loss",
        entry="train.py",
        sweep={"trials": TRIALS, "parallel": PARALLEL, "algorithm": "random"},
    )
    ended = client.wait_sweep(begun.id, DEADLINE_S)
    if ended.counts["completed"] != TRIALS or ended.ended_at is None:
        raise BenchFailed(f"the sweep {ended.state}: {ended.counts} {ended.reason}")
    return (ended.ended_at - ended.created_at).total_seconds()


def as_runs(client: Client, name: str) -> float:
    """Seconds from the first one's acceptance to the last one's bill."""

    def submit(number: int) -> str:
        return client.run(name, "train.py", params={"x": number / TRIALS}).id

    with ThreadPoolExecutor(8) as threads:
        submitted = set(threads.map(submit, range(TRIALS)))
    deadline = time.monotonic() + DEADLINE_S
    while True:
        runs = [run for run in client.runs(limit=TRIALS, trials=False) if run.id in submitted]
        ends = [run.ended_at for run in runs if run.ended_at is not None]
        if len(ends) == TRIALS:
            return _between(min(run.created_at for run in runs), max(ends))
        if time.monotonic() > deadline:
            raise BenchFailed(f"only {len(ends)} of {TRIALS} runs have ended")
        time.sleep(0.5)


def as_processes(python: str, folder: Path) -> float:
    """As many at a time as there are devices."""

    def run(number: int) -> None:
        subprocess.run(
            [python, "train.py", "--x", str(number)],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            check=True,
        )

    began = time.monotonic()
    with ThreadPoolExecutor(DEVICES) as threads:
        list(threads.map(run, range(TRIALS)))
    return time.monotonic() - began


def _between(first: datetime, last: datetime) -> float:
    return (last - first).total_seconds()


if __name__ == "__main__":
    run_bench(measure, FIGURE, TARGET)
