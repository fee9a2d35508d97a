"""A million lines, followed live: none is lost, and the server stays small."""

import subprocess
import threading
import time

import psutil
from bench._harness import MIB, TESRA, Network, network, project, report, run_bench

LINES = 1_000_000
LOST = "log_lines_lost"
SERVER_MB = "server_rss_mb_while_logging"
SERVER_TARGET_MB = 300.0
SCRIPT = f"""
import time
time.sleep(2)
for number in range({LINES}):
    print("line", number)
"""


def measure() -> None:
    with network(devices=1) as net, project(SCRIPT) as folder:
        run = net.start_run(folder, "--devices", "1")
        peak = PeakMemory(net.pid("server"))
        began = time.monotonic()
        seen, in_order = follow(net, run)
        took_s = time.monotonic() - began
        net.finish_run(run)
        peak_mb = peak.stop()
    versus = {
        "lines": LINES,
        "in_order": in_order,
        "lines_per_s": round(LINES / took_s),
        "target_is": "no line lost",
    }
    report(LOST, LINES - seen, target=0, versus=versus)
    report(SERVER_MB, round(peak_mb, 1), target=SERVER_TARGET_MB, versus={"lines": LINES})


def follow(net: Network, run: str) -> tuple[int, bool]:
    """How many of the lines a viewer saw, and whether each came right after the one before."""
    seen, in_order = 0, True
    with subprocess.Popen(
        [*TESRA, "logs", run, "--rank", "0", "--follow"],
        env=net.environ,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            _, found, number = line.rpartition("line ")
            if found and number.strip().isdigit():
                in_order = in_order and int(number) == seen
                seen += 1
    return seen, in_order


class PeakMemory:
    """The largest resident size that a process has had while this watched."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """In MiB."""
        self._ended.set()
        self._thread.join()
        return self._peak / MIB

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            self._peak = max(self._peak, self._process.memory_info().rss)


if __name__ == "__main__":
    run_bench(measure, LOST, 0)
