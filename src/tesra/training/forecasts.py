"""The forecast of a live run, from its metrics, its parameters, and what it costs."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tesra.billing.pricing import cost_of
from tesra.db.engine import Tx
from tesra.kit.clock import Clock
from tesra.kit.ids import AttemptId, RunId
from tesra.kit.money import ceil_to_fen, format_cny
from tesra.training.caps import left_ms
from tesra.training.domains import Domains
from tesra.training.forecast import TOTALS, Forecast, Sample, forecast, total_of
from tesra.training.metering import caps_of, spent_of
from tesra.training.metrics.model import Latest
from tesra.training.metrics.service import MetricService
from tesra.training.model import RunState
from tesra.training.repository import RunRepository, RunRow
from tesra.wire.training import RunForecast

_POINTS = 200


class Forecasts:
    """What a running run will have cost."""

    def __init__(self, domains: Domains, metrics: MetricService, clock: Clock) -> None:
        self._billing = domains.billing
        self._metrics = metrics
        self._clock = clock
        self._repository = RunRepository()

    async def of(self, tx: Tx, run: RunId) -> RunForecast | None:
        """For a run with an attempt; None for one that waits or has ended."""
        row = await self._repository.run(tx, run)
        if row is None or not RunState(row.state).live:
            return None
        attempt = await self._repository.attempt(tx, AttemptId(row.attempt_id))
        if attempt is None:
            return None
        so_far = ceil_to_fen(spent_of(attempt).micros)
        shown = RunForecast(cost_so_far=format_cny(so_far))
        now = self._clock.now()
        found = await self._count(tx, row, attempt, now) if row.state == RunState.RUNNING else None
        if found is None:
            return shown
        price = await self._billing.current_price_micros(tx)
        to_finish = cost_of(round(found.left_s * 1000), attempt.rating_micro_t, price)
        left = left_ms(
            caps_of(attempt),
            spent_of(attempt),
            rating_micro_t=attempt.rating_micro_t,
            price_micros=price,
        )
        return RunForecast(
            cost_so_far=shown.cost_so_far,
            cost_to_finish=format_cny(ceil_to_fen(to_finish)),
            finish_at=now + timedelta(seconds=found.left_s),
            based_on=found.words,
            ends_at_cap=left is not None and left < found.left_s * 1000,
        )

    async def _count(self, tx: Tx, row: RunRow, attempt: RunRow, now: datetime) -> Forecast | None:
        """The finer count first."""
        latest = await self._metrics.latest(tx, RunId(row.id))
        told = {one.name: one.value for one in latest}
        since = (attempt.started_at or attempt.created_at).timestamp()
        for count in TOTALS:
            total = total_of(count, _params(row), told)
            name = _carrier(count, latest) if total is not None else None
            if name is None:
                continue
            samples = await self._samples(tx, RunId(row.id), name, by_step=name != count)
            recent = [sample for sample in samples if sample.at >= since]
            found = forecast(count, total, recent, now=now.astimezone(UTC).timestamp())
            if found is not None:
                return found
        return None

    async def _samples(self, tx: Tx, run: RunId, name: str, *, by_step: bool) -> list[Sample]:
        series = await self._metrics.history(tx, run, name, points=_POINTS, axis="time")
        values = series.steps if by_step else series.values
        return [
            Sample(at, float(value))
            for at, value in zip(series.times, values, strict=True)
            if value is not None
        ]


def _carrier(count: str, latest: list[Latest]) -> str | None:
    """The metric that counts; for steps, else the one whose own step has gone furthest."""
    if any(one.name == count for one in latest):
        return count
    if count != "step" or not latest:
        return None
    return max(latest, key=lambda one: one.step).name


def _params(row: RunRow) -> Mapping[str, Any]:
    params: Mapping[str, Any] = row.spec["params"]
    return params
