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


def read_line(line: bytes, rank: int, now: float) -> Point | None:
    """The line's point; ``None`` when it is none of ``tesra.log``'s."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or not isinstance(told.get("values"), dict):
        return None
    values = _clean(told["values"])
    if not values:
        return None
    return Point(rank, "log", clean_time(told.get("t"), now), clean_step(told.get("step")), values)


def _clean(told: dict[str, Any]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name, value in told.items():
        known, number = clean_name(name), clean_value(value)
        if known and number is not None:
            values[known] = number
        if len(values) >= _MAX_VALUES:
            break
    return values
