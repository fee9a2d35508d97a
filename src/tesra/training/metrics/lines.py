"""Spool lines as a node sends them: read tolerantly, whatever a script has put into them.

A line that is not understood is skipped and counted; nothing here raises. Names come out
printable and at most ``MAX_NAME`` characters long, steps within 64 bits, times sane.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic_core import from_json

from tesra.training.metrics.points import NO_STEP, Columns

MAX_NAME = 256
MAX_TEXT = 8192  # of a logged parameter
ORIGINS = ("log", "tensorboard", "mlflow", "lines")  # the most deliberate first
DEVICE_NAMES = frozenset({"use", "memory_bytes", "power_w"})
DEVICE = "device"  # the origin of device samples
LATEST_TIME = 4e9  # seconds since 1970
_MAX_STEP = 2**62
_TEXTS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Key(NamedTuple):
    """Whose points they are; ``device`` is empty but for device samples, whose rank is -1."""

    name: str
    rank: int
    origin: str
    device: str = ""


@dataclass(slots=True)
class Batch:
    """What some lines say; ``skipped`` counts lines and values that were not understood."""

    series: dict[Key, Columns] = field(default_factory=dict)
    params: dict[tuple[int, str], str] = field(default_factory=dict)
    skipped: int = 0


def read_lines(data: bytes, *, ranks: int, devices: frozenset[str]) -> Batch:
    """The lines of an attempt of so many ranks on these devices."""
    batch = Batch()
    for line in _parsed(data):
        match line:
            case {"k": "m", "r": int(rank), "v": dict(values)} if 0 <= rank < ranks:
                _take_values(batch, line, rank, values)
            case {"k": "d", "d": str(device), "v": dict(values)} if device in devices:
                _take_samples(batch, line, device, values)
            case {"k": "p", "r": int(rank), "v": dict(values)} if 0 <= rank < ranks:
                for name, text in values.items():
                    batch.params[rank, printable(name)] = _text(text)
            case _:
                batch.skipped += 1
    return batch


def printable(name: str) -> str:
    """A name that a terminal, a file and the database can hold."""
    shown = name[:MAX_NAME]
    if not shown.isprintable():
        shown = "".join(letter if letter.isprintable() else "�" for letter in shown)
    return shown or "(no name)"


def number_of(value: Any) -> float | None:
    """A number or one of the texts nan, inf, -inf; None for anything else."""
    if isinstance(value, str):
        return _TEXTS.get(value)
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return None


def _parsed(data: bytes) -> Sequence[Any]:
    """The value of each line, None for what is no JSON; all at once when all are well."""
    lines = [line for line in data.split(b"\n") if line and not line.isspace()]
    try:
        whole = from_json(b"[" + b",".join(lines) + b"]")
    except ValueError:
        whole = []
    return whole if len(whole) == len(lines) else list(_parsed_one_by_one(lines))


def _parsed_one_by_one(lines: list[bytes]) -> Iterator[Any]:
    for line in lines:
        try:
            yield from_json(line)
        except ValueError:
            yield None


def _take_values(batch: Batch, line: dict[str, Any], rank: int, values: dict[str, Any]) -> None:
    time, step, origin = _time(line), _step(line), line.get("o")
    if time is None or step is None or origin not in ORIGINS:
        batch.skipped += 1
        return
    series = batch.series
    for name, value in values.items():
        number = value if type(value) is float else number_of(value)
        if number is None:
            batch.skipped += 1
            continue
        key = Key(name, rank, origin)
        if (points := series.get(key)) is None:
            points = series.setdefault(key._replace(name=printable(name)), Columns())
        points.add(step, time, number)


def _take_samples(batch: Batch, line: dict[str, Any], device: str, values: dict[str, Any]) -> None:
    time = _time(line)
    for name, value in values.items():
        number = number_of(value)
        if time is None or number is None or name not in DEVICE_NAMES:
            batch.skipped += 1
            continue
        key = Key(name, -1, DEVICE, device)
        batch.series.setdefault(key, Columns()).add(NO_STEP, time, number)


def _time(line: dict[str, Any]) -> float | None:
    time = line.get("t")
    return float(time) if isinstance(time, int | float) and 0 <= time <= LATEST_TIME else None


def _step(line: dict[str, Any]) -> int | None:
    """``NO_STEP`` when it has none; None when it is no step."""
    step = line.get("s")
    if step is None:
        return NO_STEP
    if isinstance(step, float) and step.is_integer():
        step = int(step)
    return step if isinstance(step, int) and abs(step) <= _MAX_STEP else None


def _text(value: Any) -> str:
    return (value if isinstance(value, str) else str(value))[:MAX_TEXT].replace("\x00", "�")
