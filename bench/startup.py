"""How long ``tesra up`` takes, what the idle network weighs, and how long a warm demo takes."""

import contextlib
import subprocess
import sys
import time

import psutil
from bench._harness import (
    MIB,
    ROOT,
    BenchFailed,
    network,
    processes_of,
    pss_bytes,
    report,
    run_bench,
)

UP = "up_to_ready_s"
UP_TARGET_S = 20.0
IDLE_MB = "idle_memory_mb"
IDLE_TARGET_MB = 1200.0
IDLE_CPU = "idle_cpu_percent_of_a_core"
IDLE_CPU_TARGET = 5.0
IDLE_WATCH_S = 20.0
DEMO = "demo_warm_s"
DEMO_TARGET_S = 60.0
SETTLE_S = 10.0


def measure_up() -> None:
    with network() as net:
        report(UP, round(net.up_s, 2), target=UP_TARGET_S, versus={"home": "new"})
        time.sleep(SETTLE_S)
        sizes = {
            process.pid: (process.name(), pss_bytes(process)) for process in processes_of(net.home)
        }
        used = cpu_seconds(processes_of(net.home))
        time.sleep(IDLE_WATCH_S)
        spent = cpu_seconds(processes_of(net.home))
    total = sum(size for _, size in sizes.values())
    largest = sorted(sizes.values(), key=lambda row: row[1], reverse=True)[:8]
    report(
        IDLE_MB,
        round(total / MIB),
        target=IDLE_TARGET_MB,
        versus={
            "processes": len(sizes),
            "largest_mb": [f"{name} {round(size / MIB)}" for name, size in largest],
        },
    )

    percent = sum(spent[key] - used.get(key, 0.0) for key in spent) / IDLE_WATCH_S * 100
    report(IDLE_CPU, round(percent, 2), target=IDLE_CPU_TARGET, versus={"seconds": IDLE_WATCH_S})


def cpu_seconds(processes: list[psutil.Process]) -> dict[int, float]:
    """What each process has used of the processor so far."""
    used = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            used[process.pid] = times.user + times.system
    return used


def measure_demo() -> None:
    cold_s = demo_s()
    report(DEMO, round(demo_s(), 1), target=DEMO_TARGET_S, versus={"first_s": round(cold_s, 1)})


def demo_s() -> float:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "tools/demo.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchFailed(done.stderr.strip()[-500:])
    return time.monotonic() - began


if __name__ == "__main__":
    run_bench(measure_up, UP, UP_TARGET_S)
    run_bench(measure_demo, DEMO, DEMO_TARGET_S)
