"""Usage as it comes in: recorded once, counted towards its user's share, held against caps and limits."""

from collections import defaultdict
from dataclasses import dataclass, field

from tesra.billing.model import RatedDevice, UsageRecord
from tesra.db.engine import Tx
from tesra.kit.ids import AttemptId, RunId, UserId
from tesra.kit.money import MS_PER_HOUR
from tesra.kit.saying import Said
from tesra.training import caps, exposure
from tesra.training.caps import Caps, Spent
from tesra.training.domains import Domains
from tesra.training.model import StopCause, StopRequested
from tesra.training.queue_rows import QueueRows
from tesra.training.repository import RunRepository, RunRow
from tesra.wire.site import Usage


@dataclass
class Meter:
    """What one transaction's facts used, by user."""

    used_micro_th: dict[UserId, float] = field(default_factory=lambda: defaultdict(float))


class Metering:
    """Takes usage records of attempts; ``near_cap`` is called once when a cap comes near."""

    def __init__(self, domains: Domains) -> None:
        self._compute = domains.compute
        self._billing = domains.billing
        self._transitions = domains.transitions
        self._near_cap = domains.near_cap
        self._repository = RunRepository()
        self._rows = QueueRows()

    async def record(self, tx: Tx, row: RunRow, usage: Usage, meter: Meter) -> list[str]:
        """Billed time is never more than the wall time since placing, nor than the caps leave.

        Asks the run to end when a cap is due; answers whom to wake.
        """
        capped, spent = caps_of(row), spent_of(row)
        most = max(0, int(row.age_ms) - row.usage_ms)
        price = await self._billing.price_micros(tx, usage.started_at) if capped != Caps() else 0
        left = caps.left_ms(capped, spent, rating_micro_t=row.rating_micro_t, price_micros=price)
        duration_ms = min(usage.duration_ms, most if left is None else min(most, left))
        cost = await self._billing.record_usage(tx, _record(row, usage, duration_ms))
        after = Spent(spent.ms + duration_ms, spent.micros + cost)
        counted = {"usage_ms": row.usage_ms + duration_ms, "cost_micros": row.cost_micros + cost}
        await self._repository.update_attempt(tx, AttemptId(row.id), counted)
        meter.used_micro_th[UserId(row.owner)] += row.rating_micro_t * duration_ms / MS_PER_HOUR
        topics = [f"run:{row.run_id}"]
        if left is not None and row.stop is None:
            topics += await self._hold_to_caps(tx, row, (spent, after), left - duration_ms)
        return topics

    async def settle(self, tx: Tx, meter: Meter) -> list[str]:
        """Once at the end of a transaction: shares are added, and limits of unpaid use looked at."""
        users = {user for user, used in meter.used_micro_th.items() if used > 0}
        if not users:
            return []
        await self._compute.shares.add(tx, meter.used_micro_th)
        standing = await self._billing.credits(tx, users)
        live = await self._rows.live(tx, users)
        price = await self._billing.current_price_micros(tx)
        topics: list[str] = []
        for user in sorted(users):
            run = exposure.to_end(live[user], standing[user], price)
            if run is not None:
                words = exposure.end_words(standing[user], run)
                topics += await self._end(tx, run, words)
        return topics

    async def _hold_to_caps(
        self, tx: Tx, row: RunRow, spent: tuple[Spent, Spent], left: int
    ) -> list[str]:
        run, capped, (before, after) = RunId(row.run_id), caps_of(row), spent
        if caps.is_due(after, left):
            return await self._end(tx, run, caps.words(capped, after, run))
        if caps.is_near(capped, before, after):
            words = caps.near_words(capped, after)
            await self._repository.lock_run(tx, run)
            await self._repository.add_event(tx, run, "cap", words)
            for observer in self._near_cap:
                await observer(tx, run, UserId(row.owner), words)
        return []

    async def _end(self, tx: Tx, run: RunId, words: Said) -> list[str]:
        return await self._transitions.apply(tx, run, StopRequested(StopCause.CAP, words))


def caps_of(row: RunRow) -> Caps:
    """The caps of a run's row."""
    return Caps(row.max_cost_micros, row.max_time_ms)


def spent_of(row: RunRow) -> Spent:
    """What the bill would count now: earlier attempts as far as they are paid for, and this one."""
    return Spent(row.earlier_ms + row.usage_ms, row.earlier_micros + row.cost_micros)


def _record(row: RunRow, usage: Usage, duration_ms: int) -> UsageRecord:
    return UsageRecord(
        attempt_id=AttemptId(row.id),
        seq=usage.number,
        run_id=RunId(row.run_id),
        started_at=usage.started_at,
        duration_ms=duration_ms,
        devices=[
            RatedDevice(device["device_class"], device["rating_micro_t"]) for device in row.devices
        ],
    )
