"""From a run accepted to its script's first line, over what the script needs by itself."""

import statistics
import subprocess
import time
from datetime import datetime
from pathlib import Path

from bench._harness import Network, engine_python, network, project, report, run_bench

FIGURE = "launch_overhead_s"
TARGET = 0.3
ROUNDS = 10
SCRIPT = "import time\nprint(repr(time.time()), flush=True)\n"


def measure() -> None:
    with network() as net, project(SCRIPT) as folder:
        inside_tesra(net, folder)  # builds the environment, uploads the project
        inside = [inside_tesra(net, folder) for _ in range(ROUNDS)]
        edited = [inside_tesra(net, edit(folder, number)) for number in range(ROUNDS)]
        python = engine_python()
        bare = [on_its_own(python, folder) for _ in range(ROUNDS)]
    report(
        FIGURE,
        round(statistics.median(inside) - statistics.median(bare), 3),
        target=TARGET,
        versus={
            "inside_s": round(statistics.median(inside), 3),
            "worst_inside_s": round(max(inside), 3),
            "after_an_edit_s": round(statistics.median(edited), 3),
            "bare_s": round(statistics.median(bare), 3),
            "ray_jobs_api_s": 5.8,
        },
    )


def inside_tesra(net: Network, folder: Path) -> float:
    """Seconds from the run's acceptance, by the database's clock on this machine."""
    run = net.start_run(folder)
    record = net.finish_run(run)
    printed = float(net.output_of(run).split()[-1])
    return printed - datetime.fromisoformat(record["created_at"]).timestamp()


def edit(folder: Path, number: int) -> Path:
    """Change the project, so that the node has to fetch it again."""
    (folder / "train.py").write_text(f"{SCRIPT}# {number}\n", encoding="utf-8")
    return folder


def on_its_own(python: str, folder: Path) -> float:
    began = time.time()
    done = subprocess.run([python, "train.py"], cwd=folder, capture_output=True, check=True)
    return float(done.stdout) - began


if __name__ == "__main__":
    run_bench(measure, FIGURE, TARGET)
