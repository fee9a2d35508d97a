"""What watching for changes costs a training that nobody tunes: one optimiser step, hooked and bare.

The platform's hook is loaded as in a run, with its thread looking at a real orders file. The step is
torch's smallest, so that nothing hides the difference; of a step of 1 ms it may be 1 % at most.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path

from bench._harness import ROOT, engine_python, report, run_bench

from tesra.node.entry import IN_RANK
from tesra.node.rank_plan import RANK_RUNTIME

FIGURE = "tuning_step_us"
TARGET = 10.0  # 1 % of 1 ms
ROUNDS = 5

OPTIMISER = """
import time, torch
weight = torch.nn.Parameter(torch.zeros(1))
weight.grad = torch.ones(1)
optimiser = torch.optim.SGD([weight], lr=0.1)
for _ in range(20_000): optimiser.step()
began = time.perf_counter()
for _ in range(100_000): optimiser.step()
print((time.perf_counter() - began) * 10)
"""
SCRIPT = """
import time, tesra
for _ in range(10_000): tesra.step(), tesra.params.lr
began = time.perf_counter()
for _ in range(1_000_000): tesra.step()
stepped = time.perf_counter() - began
began = time.perf_counter()
for _ in range(1_000_000): tesra.params.lr
print(stepped, time.perf_counter() - began)
"""


def measure() -> None:
    with tempfile.TemporaryDirectory(prefix="tesra-bench-") as name:
        folder = Path(name)
        hooked_environ = environ_of_rank(folder)
        python = engine_python()
        bare = [run(python, OPTIMISER, {})[0]]
        hooked = [run(python, OPTIMISER, hooked_environ)[0]]
        for _ in range(ROUNDS - 1):
            bare.append(run(python, OPTIMISER, {})[0])
            hooked.append(run(python, OPTIMISER, hooked_environ)[0])
        step_us, params_us = run(python, SCRIPT, hooked_environ)
    report(
        FIGURE,
        round(min(hooked) - min(bare), 3),
        target=TARGET,
        versus={
            "optimiser_step_us": round(min(hooked), 3),
            "bare_optimiser_step_us": round(min(bare), 3),
            "tesra_step_us": round(step_us, 3),
            "tesra_params_us": round(params_us, 3),
        },
    )


def environ_of_rank(folder: Path) -> dict[str, str]:
    """What a rank has, as far as tuning goes."""
    (folder / "orders.json").write_text('{"orders": []}')
    (folder / "params.json").write_text(json.dumps({"lr": 0.1}))
    (folder / "status").touch()
    return {
        "PYTHONPATH": f"{ROOT / 'src'}:{IN_RANK}",
        RANK_RUNTIME: str(ROOT / "src"),
        "TESRA_PARAMS_FILE": str(folder / "params.json"),
        "TESRA_TUNING_FILE": str(folder / "orders.json"),
        "TESRA_TUNING_STATUS": str(folder / "status"),
    }


def run(python: str, script: str, environ: dict[str, str]) -> list[float]:
    """The figures that a script prints."""
    base = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, "-c", script], env=base | environ, capture_output=True, text=True, check=True
    )
    return [float(word) for word in done.stdout.split()]


if __name__ == "__main__":
    run_bench(measure, FIGURE, TARGET)
