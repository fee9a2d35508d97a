"""Metrics of a run, and what its devices were used for.

JSON has no number for what is not finite: such a value is one of the texts nan, inf, -inf where
it is said, and null (a gap) where it is drawn.
"""

from datetime import datetime
from typing import Literal

from pydantic import Field

from tesra.wire.common import Answer
from tesra.wire.metric_names import Value
from tesra.wire.training import RunState

Axis = Literal["step", "time"]


class MetricName(Answer):
    """What is stored under a name, over ``ranks``; ``last`` is of the lowest rank.

    ``origin``: log (``tesra.log``), tensorboard, mlflow, lines (read from what was printed).
    ``points`` counts all, ``nonfinite`` those of them that are NaN or infinite, which have no part
    in ``low`` and ``high``.
    """

    name: str
    origin: str
    ranks: list[int]
    points: int
    nonfinite: int
    last: Value
    last_step: int
    last_at: datetime
    low: float | None
    low_step: int | None
    high: float | None
    high_step: int | None


class Metrics(Answer):
    """``params``: what the script itself has logged as parameters. ``notes``: limits that were met.

    ``skipped`` counts what a node sent and nobody understands. ``cursor`` goes into
    ``/metrics/stream?after=``.
    """

    run: str
    names: list[MetricName]
    params: dict[str, str] = {}
    notes: list[str] = []
    points: int = 0
    skipped: int = 0
    cursor: int = 0


class MetricSeries(Answer):
    """A metric over its steps, thinned for a chart with its peaks kept; a null value is a gap.

    ``times``: seconds since 1970. ``count`` and ``nonfinite`` are of all points, shown or not.
    ``device`` is set for the use of a device, whose steps mean nothing: its id, its number on its
    node, and that node's name if the run had several.
    """

    name: str
    rank: int
    origin: str
    count: int
    nonfinite: int
    steps: list[int]
    times: list[float]
    values: list[float | None]
    device: str | None = None
    index: int | None = None
    node: str | None = None


class MetricHistory(Answer):
    run: str
    x: Axis
    series: list[MetricSeries]


class MetricPoint(Answer):
    """One line of an export. ``attempt`` counts from 1."""

    name: str
    rank: int
    step: int
    time: float
    value: Value
    attempt: int
    origin: str


class MetricValue(Answer):
    """The newest value of a name on a rank."""

    name: str
    rank: int
    step: int
    value: Value
    at: datetime


class MetricNews(Answer):
    """One line of the live stream: what has a new value since ``after``, and the run's state.

    The stream ends behind a terminal state; ``cursor`` goes into ``?after=`` to resume.
    """

    cursor: int
    state: RunState
    values: list[MetricValue] = Field(default=[])
