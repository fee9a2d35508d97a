"""``tesra.log``: metrics as JSON lines in the file that ``TESRA_METRICS_FILE`` names.

Standard library only. Nothing here may ever hurt a training: whatever is logged, and whatever
becomes of the file, no exception reaches the script; without the variable nothing happens. A line
is ``{"t": seconds, "step": 3, "values": {"loss": 0.1, "grad": "nan"}}``: what JSON has no
number for is one of the texts ``nan``, ``inf``, ``-inf``. Each line is one write to a file that
is only appended to, so threads and forked processes may log too.
"""

from __future__ import annotations  # engines may bring an older Python

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

FILE_VARIABLE = "TESRA_METRICS_FILE"
MAX_VALUES = 1000  # of one call
MAX_NAME = 256
_NESTING = 4


class Metrics:
    """One process's metrics; the file is opened at the first need."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._path = ""
        self._complained: set[str] = set()

    def log(self, values: Mapping[str, Any], step: int | None) -> None:
        """Append one line; what is no number is left out and told once on standard error."""
        try:
            self._log(values, step)
        except Exception as error:  # noqa: BLE001 - logging must never end a training
            self._complain("", f"not logged: {type(error).__name__}: {error}")

    def _log(self, values: Mapping[str, Any], step: int | None) -> None:
        path = os.environ.get(FILE_VARIABLE)
        if not path:
            return
        numbers: dict[str, float | int | str] = {}
        for name, value in _flat(values, "", _NESTING):
            number = _number(value)
            if number is None:
                self._complain(
                    name, f"{name!r} is no number and not logged: {type(value).__name__}"
                )
            elif len(numbers) < MAX_VALUES:
                numbers[name[:MAX_NAME]] = number
            else:
                self._complain("", f"more than {MAX_VALUES} values at once: the rest is not logged")
                break
        if numbers:
            line = {"t": round(time.time(), 3), "step": _whole(step), "values": numbers}
            self._write(path, json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def _write(self, path: str, line: bytes) -> None:
        if self._descriptor is None or path != self._path:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
            self._descriptor = os.open(path, flags, 0o644)
            self._path = path
        os.write(self._descriptor, line)

    def _complain(self, about: str, text: str) -> None:
        if about in self._complained or len(self._complained) > MAX_VALUES:
            return
        self._complained.add(about)
        try:
            sys.stderr.write(f"tesra.log: {text}\n")
        except (OSError, ValueError, AttributeError):  # closed, or none at all
            return


def _flat(values: Mapping[Any, Any], above: str, depth: int) -> Iterator[tuple[str, Any]]:
    """``{"train": {"loss": 1}}`` as ``train/loss``."""
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping) and depth > 0:
            yield from _flat(value, f"{name}/", depth - 1)
        else:
            yield name, value


def _number(value: Any) -> float | int | str | None:
    """A number, also of a tensor or an array with one element; None for anything else."""
    if value is None or isinstance(value, (str, bytes, Mapping)):
        return None
    try:
        if not isinstance(value, (int, float)) and hasattr(value, "asnumpy"):  # MXNet
            value = value.asnumpy()
        if not isinstance(value, (int, float)) and hasattr(value, "item"):
            value = value.item()
        number = int(value) if isinstance(value, int) else float(value)
        if isinstance(number, int):
            return number if abs(number) < 2**63 else float(number)
    except Exception:  # noqa: BLE001 - a stranger's object may raise whatever it likes
        return None
    if math.isnan(number):
        return "nan"
    return number if math.isfinite(number) else "inf" if number > 0 else "-inf"


def _whole(step: Any) -> int | None:
    number = _number(step)
    return int(number) if isinstance(number, (int, float)) else None
