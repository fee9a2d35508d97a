"""The ledger, purely: double entry, append-only, correction by reversal.

A posting moves value between accounts; its entries sum to zero, a positive entry is value that
the account gains. Accounts:

==================  =====  ==================================================================
``wallet:{user}``   >= 0   money of a user, topped up and not spent
``voucher:{id}``    >= 0   what is left of a redeemed voucher
``owed:{user}``     <= 0   bills made and not paid, with a minus
``platform:revenue``       what bills brought in (made, not only paid)
``platform:cash``          minus the money received from outside
``platform:grants``        minus the money given away as vouchers; expiry brings it back
==================  =====  ==================================================================

Each posting has a key that is unique for ever: ``bill:{run}``, ``voucher:{id}:{bill}``,
``pay:{bill}:{idempotency key}``, ``topup:{key}``, ``grant:{voucher}``, ``expire:{voucher}``,
``reverse:{key of the reversed posting}``. (``usage:{attempt}:{seq}`` is the primary key of the
usage records, which are evidence and no posting.)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tesra.billing.model import VoucherLot
from tesra.kit.ids import BillId, RunId, UserId, VoucherId

REVENUE = "platform:revenue"
CASH = "platform:cash"
GRANTS = "platform:grants"


def wallet(user_id: UserId) -> str:
    return f"wallet:{user_id}"


def voucher(voucher_id: VoucherId) -> str:
    return f"voucher:{voucher_id}"


def owed(user_id: UserId) -> str:
    return f"owed:{user_id}"


class PostingKind(StrEnum):
    BILL = "bill"
    PAYMENT = "payment"
    VOUCHER = "voucher"
    TOPUP = "topup"
    GRANT = "grant"
    EXPIRY = "expiry"
    REVERSAL = "reversal"


@dataclass(frozen=True, slots=True)
class Entry:
    account: str
    amount_micros: int


@dataclass(frozen=True, slots=True)
class Posting:
    """Entries that belong together, about one user's money; refuses to exist unbalanced."""

    key: str
    kind: PostingKind
    user_id: UserId
    entries: tuple[Entry, ...]
    bill_id: BillId | None = None
    memo: str = ""

    def __post_init__(self) -> None:
        if sum(entry.amount_micros for entry in self.entries) != 0:
            raise ValueError(f"the entries of {self.key} do not sum to zero")
        if len(self.entries) < 2 or any(entry.amount_micros == 0 for entry in self.entries):
            raise ValueError(f"{self.key} moves nothing")


@dataclass(frozen=True, slots=True)
class PaymentPlan:
    """How an amount is met: voucher lots first, then the wallet; ``missing_micros`` is not met."""

    from_vouchers: tuple[tuple[VoucherId, int], ...]
    from_wallet_micros: int
    missing_micros: int

    @property
    def covers(self) -> bool:
        return self.missing_micros == 0


def plan_payment(
    amount_micros: int, lots: Sequence[VoucherLot], *, wallet_micros: int, now: datetime
) -> PaymentPlan:
    """Spend open lots, the soonest to expire first, then the wallet."""
    left = amount_micros
    parts: list[tuple[VoucherId, int]] = []
    for lot in sorted(lots, key=lambda lot: (lot.expires_at, lot.id)):
        part = min(left, lot.remaining_micros) if lot.expires_at > now else 0
        if part > 0:
            parts.append((lot.id, part))
            left -= part
    from_wallet = min(left, max(wallet_micros, 0))
    return PaymentPlan(tuple(parts), from_wallet, left - from_wallet)


def post_bill(user_id: UserId, bill_id: BillId, run_id: RunId, *, amount_micros: int) -> Posting:
    return Posting(
        f"bill:{run_id}",
        PostingKind.BILL,
        user_id,
        _move(owed(user_id), REVENUE, amount_micros),
        bill_id,
        f"bill of {run_id}",
    )


def post_payment(
    user_id: UserId, bill_id: BillId, plan: PaymentPlan, *, key: str
) -> tuple[Posting, ...]:
    """One posting for each voucher lot, one for the wallet; ``key`` is the payer's idempotency key."""
    memo = f"payment of {bill_id}"
    postings = [
        Posting(
            f"voucher:{voucher_id}:{bill_id}",
            PostingKind.VOUCHER,
            user_id,
            _move(voucher(voucher_id), owed(user_id), part),
            bill_id,
            memo,
        )
        for voucher_id, part in plan.from_vouchers
    ]
    if plan.from_wallet_micros:
        entries = _move(wallet(user_id), owed(user_id), plan.from_wallet_micros)
        kind = PostingKind.PAYMENT
        postings.append(Posting(f"pay:{bill_id}:{key}", kind, user_id, entries, bill_id, memo))
    return tuple(postings)


def post_topup(user_id: UserId, *, amount_micros: int, key: str, memo: str = "") -> Posting:
    entries = _move(CASH, wallet(user_id), amount_micros)
    return Posting(f"topup:{key}", PostingKind.TOPUP, user_id, entries, None, memo)


def post_grant(
    user_id: UserId, voucher_id: VoucherId, *, amount_micros: int, memo: str = ""
) -> Posting:
    entries = _move(GRANTS, voucher(voucher_id), amount_micros)
    return Posting(f"grant:{voucher_id}", PostingKind.GRANT, user_id, entries, None, memo)


def post_expiry(user_id: UserId, voucher_id: VoucherId, *, remaining_micros: int) -> Posting:
    entries = _move(voucher(voucher_id), GRANTS, remaining_micros)
    memo = f"{voucher_id} expired"
    return Posting(f"expire:{voucher_id}", PostingKind.EXPIRY, user_id, entries, None, memo)


def post_reversal(posting: Posting, *, memo: str) -> Posting:
    """The same entries with the opposite sign: the only way to correct."""
    entries = tuple(Entry(entry.account, -entry.amount_micros) for entry in posting.entries)
    key = f"reverse:{posting.key}"
    return Posting(key, PostingKind.REVERSAL, posting.user_id, entries, posting.bill_id, memo)


def balances(postings: Iterable[Posting]) -> dict[str, int]:
    """What each account holds after all postings."""
    sums: dict[str, int] = {}
    for posting in postings:
        for entry in posting.entries:
            sums[entry.account] = sums.get(entry.account, 0) + entry.amount_micros
    return sums


def _move(source: str, target: str, amount_micros: int) -> tuple[Entry, ...]:
    return (Entry(source, -amount_micros), Entry(target, amount_micros))
