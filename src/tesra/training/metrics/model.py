"""What metrics look like to those who ask, and which of the stored series count. Pure.

Something may be stored more than once: by several attempts, and from several origins (a script
that logs to MLflow and prints the same). Of the origins of a name the most deliberate counts; of
the attempts the later one, from the first step that it has done on.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from tesra.training.metrics.lines import DEVICE, ORIGINS
from tesra.training.metrics.points import Spot, Summary

_ORDER = {origin: place for place, origin in enumerate((*ORIGINS, DEVICE))}


@dataclass(frozen=True, slots=True)
class Head:
    """A stored series without its points."""

    id: int
    device: str
    name: str
    rank: int
    attempt: int
    origin: str
    seq: int
    summary: Summary
    last: Spot
    tail: bytes | None = None  # read only where points are wanted


@dataclass(frozen=True, slots=True)
class Part:
    """What counts of a stored series: its points before step ``until``; all when that is None."""

    head: Head
    until: int | None = None

    @property
    def whole(self) -> bool:
        return self.until is None or self.head.summary.max_step < self.until


@dataclass(frozen=True, slots=True)
class Line:
    """One name on one rank (or of one device), over all attempts: its parts, the oldest first."""

    name: str
    rank: int
    device: str
    origin: str
    parts: tuple[Part, ...]

    @property
    def last(self) -> Spot:
        return self.parts[-1].head.last

    @property
    def whole(self) -> bool:
        return all(part.whole for part in self.parts)


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest value of a name on a rank; NaN and infinities as they are."""

    name: str
    rank: int
    step: int
    value: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Best:
    """Where a metric was lowest, or highest."""

    step: int
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    """A metric over its steps, at most so many points as were asked for; a gap is None.

    ``count`` and ``nonfinite`` are of all points that count, not only those shown.
    """

    name: str
    rank: int
    origin: str
    device: str
    steps: list[int]
    times: list[float]
    values: list[float | None]
    count: int
    nonfinite: int


def lines_of(heads: Iterable[Head]) -> list[Line]:
    """What counts of the heads of a run, by device, name and rank."""
    grouped: dict[tuple[str, str, int], list[Head]] = defaultdict(list)
    for head in heads:
        grouped[head.device, head.name, head.rank].append(head)
    return [
        Line(name, rank, device, *_counting(stored))
        for (device, name, rank), stored in sorted(grouped.items())
    ]


def _counting(stored: list[Head]) -> tuple[str, tuple[Part, ...]]:
    origin = min((head.origin for head in stored), key=lambda one: _ORDER.get(one, len(_ORDER)))
    until: int | None = None
    parts = []
    for head in sorted(stored, key=lambda one: -one.attempt):
        if head.origin != origin:
            continue
        begins = head.summary.min_step
        if until is None or begins < until:
            parts.append(Part(head, until))
        if head.origin != DEVICE:  # what a device did in an attempt that was lost, it did
            until = begins if until is None else min(until, begins)
    return origin, tuple(reversed(parts))


def moment(time: float) -> datetime:
    return datetime.fromtimestamp(time, UTC)
