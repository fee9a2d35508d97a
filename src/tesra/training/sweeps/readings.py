"""What a trial's run has reported of the sweep's metric."""

import math

from tesra.db.engine import Tx
from tesra.kit.ids import RunId
from tesra.training.metrics.service import MetricService, MetricUnknown
from tesra.training.sweeps.asha import LAST, Point
from tesra.training.sweeps.decide import Reported
from tesra.training.sweeps.model import Goal


class Readings:
    """A metric as a sweep sees it: of the lowest rank that reports it."""

    def __init__(self, metrics: MetricService) -> None:
        self._metrics = metrics

    async def of(self, tx: Tx, run: RunId, goal: Goal) -> Reported:
        """The value that a trial is judged by, and what else was reported when it is not there."""
        latest, best = await self._metrics.standing(tx, run, goal.metric, goal.mode)
        own = sorted((one for one in latest if one.name == goal.metric), key=lambda one: one.rank)
        if not own:
            return Reported(others=tuple(sorted({one.name for one in latest})))
        last = own[0]
        if goal.objective == "last":
            value = last.value if math.isfinite(last.value) else None
            return Reported(value, last.step, last.value)
        if best is None or not math.isfinite(best.value):
            return Reported(None, None, last.value)
        return Reported(best.value, best.step, last.value)

    async def points(self, tx: Tx, run: RunId, goal: Goal) -> list[Point]:
        """The run's reports in order, as many as ASHA looks at."""
        try:
            series = await self._metrics.history(tx, run, goal.metric, points=2 * LAST)
        except MetricUnknown:
            return []
        return [
            Point(step, math.nan if value is None else value)
            for step, value in zip(series.steps, series.values, strict=True)
        ]
