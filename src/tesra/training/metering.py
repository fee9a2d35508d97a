"""Usage as it comes in: recorded once, and counted towards its user's share."""

from collections import defaultdict
from dataclasses import dataclass, field

from tesra.billing.model import RatedDevice, UsageRecord
from tesra.billing.service import BillingService
from tesra.compute.service import ComputeService
from tesra.db.engine import Tx
from tesra.kit.ids import AttemptId, RunId, UserId
from tesra.kit.money import MS_PER_HOUR
from tesra.training.repository import RunRepository, RunRow
from tesra.wire.site import Usage


@dataclass
class Meter:
    """What one transaction's facts used, by user."""

    used_micro_th: dict[UserId, float] = field(default_factory=lambda: defaultdict(float))


class Metering:
    """Takes usage records of attempts."""

    def __init__(self, compute: ComputeService, billing: BillingService) -> None:
        self._compute = compute
        self._billing = billing
        self._repository = RunRepository()

    async def record(self, tx: Tx, row: RunRow, usage: Usage, meter: Meter) -> None:
        """Billed time is never more than the wall time since the attempt was placed."""
        most = max(0, int(row.age_ms) - row.usage_ms)
        duration_ms = min(usage.duration_ms, most)
        record = UsageRecord(
            attempt_id=AttemptId(row.id),
            seq=usage.number,
            run_id=RunId(row.run_id),
            started_at=usage.started_at,
            duration_ms=duration_ms,
            devices=[
                RatedDevice(device["device_class"], device["rating_micro_t"])
                for device in row.devices
            ],
        )
        await self._billing.record_usage(tx, record)
        await self._repository.update_attempt(
            tx, AttemptId(row.id), {"usage_ms": row.usage_ms + duration_ms}
        )
        meter.used_micro_th[UserId(row.owner)] += row.rating_micro_t * duration_ms / MS_PER_HOUR

    async def settle(self, tx: Tx, meter: Meter) -> None:
        """Once at the end of the transaction: users' rows are shared with other sites."""
        await self._compute.shares.add(tx, meter.used_micro_th)
