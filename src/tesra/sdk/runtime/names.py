"""What a script has as ``tesra.params``, ``log``, ``step``, ``checkpoint_dir``, ``output_dir``,
``resume_from``, ``stopping``.

Standard library only: within a run nothing else of Tesra is there. Outside of a run the same
names are harmless, so that the script runs bare too: no parameters but the script's own
defaults, nothing logged, ``./checkpoints`` and ``./out``, nothing to resume from.
"""

from __future__ import annotations  # engines may bring an older Python

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tesra.sdk.runtime.metrics import Metrics
from tesra.sdk.runtime.parameters import Params, live
from tesra.sdk.runtime.stopping import Stopping
from tesra.sdk.runtime.tuner import tuner

params = Params(*live(tuner()))
_metrics = Metrics()
_stopping = Stopping()
_steps = 0


def step() -> int:
    """One more optimiser step is done; answers how many have been.

    A change of a parameter takes effect here, before the next step begins.
    """
    global _steps  # a process trains one model, and counts once
    _steps += 1
    tuner().script_stepped()
    return _steps


def log(values: Mapping[str, Any], step: int | None = None) -> None:
    """Keep metrics with the run: ``tesra.log({"loss": loss})``. Never raises.

    ``step`` defaults to the number of steps that ``tesra.step()`` has counted.
    """
    _metrics.log(values, _steps if step is None else step)


def folder(variable: str, default: str) -> Path:
    """The folder that a variable names, else ``default`` in the working directory; made if it can be."""
    path = Path(os.environ.get(variable) or default)
    if not path.suffix:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError:  # the script will learn of it when it writes there
            return path
    return path


def resumed() -> Path | None:
    """The checkpoint (a file or a folder) that the run is to go on from; None at a fresh start."""
    path = os.environ.get("TESRA_RESUME_FROM")
    return Path(path) if path else None


def __getattr__(name: str) -> Any:
    """The folders are made when a script first asks for them, not when this is imported."""
    if name == "stopping":
        return _stopping.asked()
    if name == "resume_from":
        return resumed()
    if name == "checkpoint_dir":
        return folder("TESRA_CHECKPOINT_DIR", "checkpoints")
    if name == "output_dir":
        return folder("TESRA_OUTPUT_DIR", "out")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
