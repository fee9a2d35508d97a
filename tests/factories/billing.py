"""Made-up usage, prices and lots."""

from datetime import UTC, datetime, timedelta

from tesra.billing.model import Part, Price, RatedDevice, UsageRecord, VoucherLot, VoucherOrigin
from tesra.kit.ids import AttemptId, RunId, VoucherId, new_id

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
ONE_T = RatedDevice("cpu", 1_000_000)
HALF_YUAN = Price(1, 500_000, datetime(1970, 1, 1, tzinfo=UTC))
HOUR_MS = 3_600_000


class SteppedClock:
    """A clock that a test sets by hand."""

    def __init__(self, at: datetime | None = None) -> None:
        self.at = at or datetime.now(UTC)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


def usage(
    attempt: str,
    seq: int,
    *,
    run: str = "run_1",
    start_s: float = 0,
    duration_ms: int = 10_000,
    devices: tuple[tuple[str, int], ...] = (ONE_T,),
) -> UsageRecord:
    """A record that begins ``start_s`` seconds after noon."""
    return UsageRecord(
        attempt_id=AttemptId(attempt),
        seq=seq,
        run_id=RunId(run),
        started_at=NOON + timedelta(seconds=start_s),
        duration_ms=duration_ms,
        devices=[RatedDevice(*device) for device in devices],
    )


def whole(*attempts: str) -> list[Part]:
    """All usage of these attempts, numbered from 1."""
    return [Part(AttemptId(attempt), number) for number, attempt in enumerate(attempts, start=1)]


def lot(remaining_micros: int, *, days: float = 30, now: datetime = NOON) -> VoucherLot:
    """An open lot that expires ``days`` after ``now``."""
    return VoucherLot(
        VoucherId(new_id("vch")),
        VoucherOrigin.OPERATOR,
        remaining_micros,
        remaining_micros,
        now + timedelta(days=days),
    )
