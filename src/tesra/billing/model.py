"""What billing speaks of. Amounts are micro-yuan, compute is micro-T·H, durations are ms: all integers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Literal, NamedTuple

from tesra.kit.errors import Conflict, Invalid, NotFound, PaymentDue
from tesra.kit.ids import AttemptId, BillId, RunId, UserId, VoucherId
from tesra.kit.money import format_cny


class RatedDevice(NamedTuple):
    """One device of a gang, with the rating that it is billed at."""

    device_class: str
    rating_micro_t: int


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """All ``devices`` were used from ``started_at`` for ``duration_ms``; (attempt, seq) is its key."""

    attempt_id: AttemptId
    seq: int
    run_id: RunId
    started_at: datetime
    duration_ms: int
    devices: Sequence[RatedDevice]


@dataclass(frozen=True, slots=True)
class Price:
    """What one T·H costs for usage that starts at ``effective_from`` or later."""

    id: int
    micros_per_th: int
    effective_from: datetime


@dataclass(frozen=True, slots=True)
class Part:
    """What of a run is billed: one attempt, the run's ``number``-th, and of its usage the first
    ``until_ms``; None: all of it.
    """

    attempt_id: AttemptId
    number: int
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class BillLine:
    """Usage records ``first_seq`` to ``last_seq`` of an attempt, for its devices of one class and rating.

    ``amount_micros = floor(duration_ms x devices x rating_micro_t x price_micros / (3.6e6 x 1e6))``;
    ``attempt`` is the attempt's number within its run. With ``until_ms`` only its first so many ms
    count, up to a checkpoint: what came after was lost, and the last record may be cut short.
    ``run_id`` and ``trial`` are set on a bill for several runs (a sweep's).
    """

    attempt_id: AttemptId
    attempt: int
    first_seq: int
    last_seq: int
    started_at: datetime
    ended_at: datetime
    duration_ms: int
    devices: int
    device_class: str
    rating_micro_t: int
    price_id: int
    price_micros: int
    micro_th: int
    amount_micros: int
    run_id: RunId | None = None
    trial: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """What a run adds to a bill for several; exact, the bill alone is rounded."""

    amount_micros: int
    micro_th: int


@dataclass(frozen=True, slots=True)
class Payment:
    """Where a part of a bill's money came from."""

    source: Literal["voucher", "wallet"]
    amount_micros: int
    at: datetime


@dataclass(frozen=True, slots=True)
class BillSummary:
    """A bill without its lines; it is paid exactly when ``paid_at`` is set."""

    id: BillId
    run_id: RunId
    user_id: UserId
    amount_micros: int
    micro_th: int
    note: str | None
    created_at: datetime
    paid_at: datetime | None

    @property
    def state(self) -> Literal["unpaid", "paid"]:
        return "unpaid" if self.paid_at is None else "paid"

    @property
    def amount_cny(self) -> str:
        return format_cny(self.amount_micros)


@dataclass(frozen=True, slots=True)
class Bill(BillSummary):
    """A bill with everything that explains it."""

    lines: tuple[BillLine, ...]
    payments: tuple[Payment, ...]


@dataclass(frozen=True, slots=True)
class DayBilled:
    """What the bills made on one day (UTC) come to."""

    day: date
    bills: int
    amount_micros: int
    micro_th: int


class VoucherOrigin(StrEnum):
    WELCOME = "welcome"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Voucher:
    """Issued money that waits to be redeemed, or (once redeemed) its owner's lot."""

    id: VoucherId
    origin: VoucherOrigin
    amount_micros: int
    for_user: UserId | None
    redeemed_by: UserId | None
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class VoucherLot:
    """A redeemed voucher and what is left of it."""

    id: VoucherId
    origin: VoucherOrigin
    amount_micros: int
    remaining_micros: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class IssuedVoucher:
    """``code`` is known here and to whom it is given; only its hash is kept."""

    id: VoucherId
    code: str
    amount_micros: int
    for_user: UserId | None
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Account:
    """The row that locks a user's money."""

    user_id: UserId
    wallet_micros: int
    autopay: bool


@dataclass(frozen=True, slots=True)
class Credit:
    """What stands for a user's runs until they are paid: the limit, and what can pay."""

    limit_micros: int
    wallet_micros: int
    vouchers_micros: int
    unpaid_micros: int

    @property
    def room_micros(self) -> int:
        """How much live runs may cost together."""
        return self.limit_micros + self.wallet_micros + self.vouchers_micros - self.unpaid_micros


@dataclass(frozen=True, slots=True)
class WalletEntry:
    """One movement of a user's money; positive came in."""

    at: datetime
    kind: str
    amount_micros: int
    memo: str


@dataclass(frozen=True, slots=True)
class Wallet:
    """A user's money: what was topped up, open voucher lots, what is owed, the latest movements."""

    balance_micros: int
    unpaid_micros: int
    autopay: bool
    lots: tuple[VoucherLot, ...]
    entries: tuple[WalletEntry, ...]

    @property
    def vouchers_micros(self) -> int:
        return sum(lot.remaining_micros for lot in self.lots)


class AccountMissing(NotFound):
    """This user has no account."""


class BillMissing(NotFound):
    """There is no such bill among yours."""


class VoucherUnknown(NotFound):
    """There is no such voucher for you: look at the code again."""


class VoucherSpent(Conflict):
    """This voucher has been used already."""


class VoucherExpired(Conflict):
    """This voucher has expired."""


class UsageConflict(Conflict):
    """Another usage record has this attempt and number already."""


class UsageInvalid(Invalid):
    """A usage record needs a number, devices, an aware time since 1970 and a duration."""


class TopUpConflict(Conflict):
    """This key has been used for another top-up."""


class PriceInvalid(Invalid):
    """A price is at or above zero, and takes effect now or later, never in the past."""


class PriceConflict(Conflict):
    """Another price takes effect at this very time."""


class ReversalRefused(Conflict):
    """This posting can't be reversed."""


class InsufficientFunds(PaymentDue):
    """Vouchers and wallet do not cover the bill."""
