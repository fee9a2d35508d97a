"""Points of one series: packed for storing, with a summary of each block for drawing.

A series keeps its points in the order in which they came: whole blocks, which never change, and a
tail of fewer than ``TAIL_POINTS`` that grows with every delivery. Packed, a point has 24 bytes:
step (64-bit integer), time (seconds since 1970) and value (doubles, NaN and infinities included).
"""

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

TAIL_POINTS = 64  # at most 1.5 KiB: a row that PostgreSQL keeps in one piece
BLOCK_POINTS = 1024
NO_STEP = -(2**63)  # a point that was logged without a step; it gets the one behind the last
_BYTES = 24


@dataclass(slots=True)
class Columns:
    """Points as three columns of equal length."""

    steps: "array[int]" = field(default_factory=lambda: array("q"))
    times: "array[float]" = field(default_factory=lambda: array("d"))
    values: "array[float]" = field(default_factory=lambda: array("d"))

    def __len__(self) -> int:
        return len(self.values)

    def add(self, step: int, time: float, value: float) -> None:
        self.steps.append(step)
        self.times.append(time)
        self.values.append(value)

    def extend(self, more: "Columns") -> None:
        self.steps.extend(more.steps)
        self.times.extend(more.times)
        self.values.extend(more.values)

    def part(self, start: int, stop: int | None = None) -> "Columns":
        """The points from ``start`` to before ``stop``, as in a slice."""
        wanted = slice(start, stop)
        return Columns(self.steps[wanted], self.times[wanted], self.values[wanted])

    def spot(self, index: int) -> "Spot":
        return Spot(self.steps[index], self.times[index], self.values[index])

    def before(self, step: int) -> "Columns":
        """Those points whose step is lower, in their order."""
        if max(self.steps, default=step - 1) < step:
            return self
        kept = Columns()
        for at, time, value in zip(self.steps, self.times, self.values, strict=True):
            if at < step:
                kept.add(at, time, value)
        return kept


@dataclass(frozen=True, slots=True)
class Spot:
    """One point."""

    step: int
    time: float
    value: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What is to be known of points without reading them; ``low`` and ``high`` are the first such.

    They are None when no value is finite.
    """

    count: int
    nonfinite: int
    min_step: int
    max_step: int
    min_time: float
    max_time: float
    low: Spot | None
    high: Spot | None


@dataclass(frozen=True, slots=True)
class Block:
    """Whole points, the first of which is number ``start`` of its series."""

    start: int
    summary: Summary
    data: bytes


def pack(points: Columns) -> bytes:
    """The points one behind the other."""
    size = len(points)
    steps = array("q", bytes(_BYTES * size))
    steps[0::3] = points.steps
    mixed = array("d")
    mixed.frombytes(steps.tobytes())
    mixed[1::3] = points.times
    mixed[2::3] = points.values
    return mixed.tobytes()


def unpack(data: bytes) -> Columns:
    """What ``pack`` has made one piece of, or of several such pieces."""
    steps, mixed = array("q"), array("d")
    steps.frombytes(data)
    mixed.frombytes(data)
    return Columns(steps[0::3], mixed[1::3], mixed[2::3])


def summarise(points: Columns) -> Summary:
    """Of at least one point."""
    values = points.values
    finite = values if all(map(math.isfinite, values)) else [v for v in values if math.isfinite(v)]
    return Summary(
        count=len(values),
        nonfinite=len(values) - len(finite),
        min_step=min(points.steps),
        max_step=max(points.steps),
        min_time=min(points.times),
        max_time=max(points.times),
        low=points.spot(values.index(min(finite))) if finite else None,
        high=points.spot(values.index(max(finite))) if finite else None,
    )


def together(one: Summary | None, other: Summary) -> Summary:
    """The summary of the points of both, ``one`` being the earlier."""
    if one is None:
        return other
    return Summary(
        count=one.count + other.count,
        nonfinite=one.nonfinite + other.nonfinite,
        min_step=min(one.min_step, other.min_step),
        max_step=max(one.max_step, other.max_step),
        min_time=min(one.min_time, other.min_time),
        max_time=max(one.max_time, other.max_time),
        low=lower(one.low, other.low),
        high=higher(one.high, other.high),
    )


def lower(one: Spot | None, other: Spot | None) -> Spot | None:
    """The spot with the lower value, the first of equals."""
    if one is None or other is None:
        return one or other
    return other if other.value < one.value else one


def higher(one: Spot | None, other: Spot | None) -> Spot | None:
    """The spot with the higher value, the first of equals."""
    if one is None or other is None:
        return one or other
    return other if other.value > one.value else one


def number(points: Columns, last_step: int | None) -> None:
    """Give the points without a step the one behind the step before, in place."""
    if NO_STEP not in points.steps:
        return
    following = 0 if last_step is None else last_step + 1
    for index, step in enumerate(points.steps):
        if step == NO_STEP:
            points.steps[index] = step = following
        following = min(step, 2**62) + 1


def cut(start: int, points: Columns) -> tuple[list[Block], Columns]:
    """Whole blocks, the first point being number ``start`` of the series; and the tail that is left."""
    blocks, at = [], 0
    while len(points) - at >= TAIL_POINTS:
        some = points.part(at, at + BLOCK_POINTS)
        blocks.append(Block(start + at, summarise(some), pack(some)))
        at += len(some)
    return blocks, points.part(at)


def spots(points: Columns) -> Iterator[Spot]:
    """One by one."""
    for step, time, value in zip(points.steps, points.times, points.values, strict=True):
        yield Spot(step, time, value)
