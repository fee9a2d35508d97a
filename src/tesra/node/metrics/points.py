"""What a run has told of itself, as it goes to the server: one line of JSON for each point. Pure.

A point has the values of one moment. JSON has no number for some values: they are ``nan``,
``inf`` and ``-inf``. Names are at most 256 characters, without control characters.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Origin = Literal["log", "tensorboard", "mlflow", "lines"]
Value = float | int | str

MAX_NAME = 256
WORDS = frozenset(("nan", "inf", "-inf"))
_LAST_TIME = 4e9  # what the server takes
_WHOLE_LIMIT = 2**53  # what a double holds exactly
_STEP_LIMIT = 2**62
_UNCLEAN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")

_dump = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Point:
    """Values of one rank at one moment (``t``, seconds since the epoch), perhaps at a step."""

    rank: int
    origin: Origin
    t: float
    step: int | None
    values: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Sample:
    """How a device was used: ``use`` is 0 to 1 of it, ``memory_bytes``, ``power_w`` where known."""

    device: str
    t: float
    values: Mapping[str, float | int]


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a rank's script said that it was run with."""

    rank: int
    values: Mapping[str, str]


Fact = Point | Sample | Parameters


def line_of(fact: Fact) -> bytes:
    """A fact as the spool has it."""
    match fact:
        case Point():
            told = {
                "k": "m",
                "r": fact.rank,
                "o": fact.origin,
                "t": fact.t,
                "s": fact.step,
                "v": fact.values,
            }
        case Sample():
            told = {"k": "d", "d": fact.device, "t": fact.t, "v": fact.values}
        case Parameters():
            told = {"k": "p", "r": fact.rank, "v": fact.values}
    return _dump(told).encode() + b"\n"


def names_in(lines: Iterable[bytes]) -> set[str]:
    """All names of metrics in a spool."""
    found: set[str] = set()
    for line in lines:
        told = json.loads(line)
        if told["k"] == "m":
            found.update(told["v"])
    return found


def clean_name(name: str) -> str:
    """The name as it is kept; empty when nothing is left of it."""
    if not name.isascii() or not name.isprintable():
        name = _UNCLEAN.sub(" ", name)
    return name.strip()[:MAX_NAME]


def clean_value(value: object) -> Value | None:
    """A number, or the word for one that JSON does not have; ``None`` for anything else."""
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, int):
        return int(value) if abs(value) < _WHOLE_LIMIT else _rounded(value)
    return value if isinstance(value, str) and value in WORDS else None


def clean_step(step: object) -> int | None:
    if isinstance(step, bool) or not isinstance(step, int):
        return None
    return step if -_STEP_LIMIT <= step < _STEP_LIMIT else None


def clean_time(t: object, now: float) -> float:
    """Seconds since the epoch; ``now`` in place of what can't be one."""
    if isinstance(t, int | float) and 0 <= t <= _LAST_TIME:
        return float(t)
    return now


def _rounded(value: int) -> Value:
    try:
        return float(value)
    except OverflowError:
        return "inf" if value > 0 else "-inf"
