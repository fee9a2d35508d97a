"""The lines that ``tesra.log`` writes (``sdk/runtime/metrics``), read with mistrust. Pure.

The file is the script's: anything may stand in it.
"""

import json
from typing import Any

from tesra.node.metrics.points import (
    Point,
    Value,
    clean_name,
    clean_step,
    clean_time,
    clean_value,
)

_MAX_VALUES = 1000


def read_line(line: bytes, rank: int, now: float) -> list[Point] | None:
    """The line's points; ``None`` when something of it is none of ``tesra.log``'s."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, list) or not told:
        return None
    points = []
    for one in told:
        match one:
            case [at, step, dict(values)] if known := _clean(values):
                seconds = at / 1000 if isinstance(at, int | float) else None
                points.append(Point(rank, "log", clean_time(seconds, now), clean_step(step), known))
            case _:
                return points or None
    return points


def _clean(told: dict[str, Any]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name, value in told.items():
        known, number = clean_name(name), clean_value(value)
        if known and number is not None:
            values[known] = number
        if len(values) >= _MAX_VALUES:
            break
    return values
