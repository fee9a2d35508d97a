"""A million lines a rank, followed live: none is lost or changed, and the server stays small."""

import subprocess
import threading
import time

import psutil
from bench._harness import MIB, TESRA, Network, network, project, report, run_bench

LINES = 1_000_000
LOST = "log_lines_lost"
SERVER_MB = "server_rss_mb_while_logging"
SERVER_TARGET_MB = 300.0
MIX = 2_654_435_761  # so that a line's content is not its number alone
SCRIPT = f"""
for number in range({LINES}):
    print(f"line {{number}} loss {{number * {MIX} % 2**32:010d}} of a step that says what it does")
"""


def measure() -> None:
    with network(devices=2) as net, project(SCRIPT) as folder:
        for ranks in (1, 2):
            follow_a_run(net, str(folder), ranks)


def follow_a_run(net: Network, folder: str, ranks: int) -> None:
    peak = PeakMemory(net.pid("server"))
    began = time.monotonic()
    seen, wrong = follow(net, folder, ranks)
    took_s = time.monotonic() - began
    peak_mb = peak.stop()
    versus = {
        "ranks": ranks,
        "lines": LINES * ranks,
        "changed_or_out_of_order": wrong,
        "seconds": round(took_s, 2),
        "lines_per_s": round(LINES * ranks / took_s),
        "target_is": "no line lost",
    }
    report(LOST, LINES * ranks - sum(seen) + wrong, target=0, versus=versus)
    report(
        SERVER_MB,
        round(peak_mb, 1),
        target=SERVER_TARGET_MB,
        versus={"ranks": ranks, "lines": LINES * ranks},
    )


def follow(net: Network, folder: str, ranks: int) -> tuple[list[int], int]:
    """How many lines of each rank came, and how many of them were not the one that was due."""
    seen, wrong = [0] * ranks, 0
    command = [*TESRA, "run", folder, "--entry", "train.py", "--devices", str(ranks)]
    command += ["--launch", "gang", "--follow"]
    with subprocess.Popen(
        command, env=net.environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            rank = 0
            if ranks > 1:
                prefix, _, line = line.partition(b" ")
                rank = int(prefix.strip(b"[]"))
            wrong += line != expected(seen[rank])
            seen[rank] += 1
    return seen, wrong


def expected(number: int) -> bytes:
    """Exactly what the script has printed."""
    said = f"line {number} loss {number * MIX % 2**32:010d} of a step that says what it does\n"
    return said.encode()


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
