"""Few points that look like many: of each column of a chart its lowest and its highest value.

A peak of a single point among a million is kept, and so is a gap (a value that is not finite).
Pure; a block that lies within one column need not be read: its summary says enough.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tesra.training.metrics.points import Columns, Spot, Summary, higher, lower, spots

Axis = Literal["step", "time"]
FEWEST = 8


@dataclass(slots=True)
class _Column:
    low: Spot | None = None
    high: Spot | None = None
    gap: Spot | None = None

    def take(self, low: Spot | None, high: Spot | None) -> None:
        self.low, self.high = lower(self.low, low), higher(self.high, high)


class Chart:
    """Collects points and summaries of a series between two places of the axis; then ``drawn``."""

    def __init__(
        self, axis: Axis, first: float, last: float, points: int, *, gaps: bool = True
    ) -> None:
        self.count = 0
        self.nonfinite = 0
        self._by_step = axis == "step"
        self._axis: Axis = axis
        self._first = first
        room = max(points, FEWEST) - 2  # beside the two ends
        self._last_column = room // (3 if gaps else 2) - 1  # each shows low, high, and a gap
        self._width = (last - first) / (self._last_column + 1) or 1.0
        self._columns: dict[int, _Column] = {}
        self._ends: list[Spot] = []

    def fits(self, summary: Summary) -> bool:
        """All of these points lie in one column."""
        if self._by_step:
            return self._place(summary.min_step) == self._place(summary.max_step)
        return self._place(summary.min_time) == self._place(summary.max_time)

    def add_summary(self, summary: Summary) -> None:
        """Points by their summary: exact if it ``fits``; if not, its peaks are in their places."""
        self.count += summary.count
        self.nonfinite += summary.nonfinite
        for spot in (summary.low, summary.high):
            if spot is not None:
                self._at(spot).take(spot, spot)
        if summary.nonfinite:
            gap = Spot(summary.min_step, summary.min_time, math.nan)
            column = self._at(gap)
            column.gap = column.gap or gap

    def add(self, points: Columns) -> None:
        """Points one by one; fast when they are in order and finite."""
        self.count += len(points)
        places = points.steps if self._by_step else points.times
        if list(places) == sorted(places) and all(map(math.isfinite, points.values)):
            self._add_ordered(points, places)
            return
        for spot in spots(points):
            column = self._at(spot)
            if math.isfinite(spot.value):
                column.take(spot, spot)
            else:
                self.nonfinite += 1
                column.gap = column.gap or spot

    def keep(self, spot: Spot) -> None:
        """Show this very point: an end."""
        self._ends.append(spot)

    def drawn(self) -> list[Spot]:
        """In the order of the axis."""
        shown = [
            spot
            for column in self._columns.values()
            for spot in (column.low, column.high, column.gap)
            if spot is not None
        ]
        return in_order(dict.fromkeys([*shown, *self._ends]), self._axis)

    def _add_ordered(self, points: Columns, places: Iterable[float]) -> None:
        xs = list(places)
        start = 0
        while start < len(xs):
            place = self._place(xs[start])
            stop = bisect_right(xs, place, lo=start, key=self._place)
            values = points.values[start:stop]
            low = start + values.index(min(values))
            high = start + values.index(max(values))
            self._columns.setdefault(place, _Column()).take(points.spot(low), points.spot(high))
            start = stop

    def _at(self, spot: Spot) -> _Column:
        place = self._place(spot.step if self._by_step else spot.time)
        return self._columns.setdefault(place, _Column())

    def _place(self, x: float) -> int:
        return min(self._last_column, max(0, math.floor((x - self._first) / self._width)))


def in_order(shown: Iterable[Spot], axis: Axis) -> list[Spot]:
    """By the axis, then by time and step."""
    if axis == "step":
        return sorted(shown, key=lambda spot: (spot.step, spot.time))
    return sorted(shown, key=lambda spot: (spot.time, spot.step))
