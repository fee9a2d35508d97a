"""What an operator reads of everybody's money: top-ups, issued vouchers, and the network's sums.

Nothing here moves money. Every list is read in pages, every sum over rows that an index finds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, exists, func, literal, literal_column, or_, select, text

from tesra.billing import tables as t
from tesra.billing.ledger import PostingKind
from tesra.billing.model import VoucherOrigin
from tesra.db.engine import Tx
from tesra.kit.clock import Clock
from tesra.kit.ids import UserId, earliest_id

# Written out, not bound: a prepared statement finds a partial index only by its very condition.
_TOPUPS = text(f"ledger_postings.kind = '{PostingKind.TOPUP.value}'")
_ISSUED = text(f"vouchers.origin = '{VoucherOrigin.OPERATOR.value}'")
_BY = "top-up by "


@dataclass(frozen=True, slots=True)
class TopUpMade:
    """``by`` is the operator's id; ``reversed``: it was taken back."""

    key: str
    user_id: UserId
    amount_micros: int
    at: datetime
    by: UserId
    reversed: bool


@dataclass(frozen=True, slots=True)
class VoucherMade:
    """A voucher that an operator has issued; its code is known to nobody here."""

    id: str
    amount_micros: int
    for_user: UserId | None
    issued_by: UserId | None
    issued_at: datetime
    expires_at: datetime
    redeemed_by: UserId | None
    redeemed_at: datetime | None
    state: str  # "open", "redeemed" or "expired"


@dataclass(frozen=True, slots=True)
class Sums:
    """The network's money now, and what its bills of the last day and month came to."""

    unpaid_bills: int
    unpaid_micros: int
    wallets_micros: int
    vouchers_micros: int
    issued_micros: int  # vouchers that nobody has redeemed yet
    day_micros: int
    day_micro_th: int
    month_micros: int
    month_micro_th: int


class Books:
    """Reads over all accounts, for operators."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def topups(self, tx: Tx, before: str | None, limit: int) -> list[TopUpMade]:
        """The newest first; ``before`` is the key that the last page ended with."""
        postings, taken_back = t.postings, t.postings.alias("taken_back")
        statement = (
            select(
                postings,
                func.max(t.entries.c.amount_micros).label("amount_micros"),
                exists(
                    select(literal(1)).where(
                        taken_back.c.key == func.concat("reverse:", postings.c.key)
                    )
                ).label("taken_back"),
            )
            .join(t.entries, t.entries.c.posting_key == postings.c.key)
            .where(_TOPUPS)
            .group_by(postings.c.key)
            .order_by(postings.c.at.desc(), postings.c.key.desc())
            .limit(limit)
        )
        if before is not None:
            last = select(postings.c.at).where(postings.c.key == before).scalar_subquery()
            behind = or_(postings.c.at < last, postings.c.key < before)
            statement = statement.where(postings.c.at <= last, behind)
        return [
            TopUpMade(
                key=row.key,
                user_id=UserId(row.user_id),
                amount_micros=row.amount_micros,
                at=row.at,
                by=UserId(row.memo.removeprefix(_BY)),
                reversed=row.taken_back,
            )
            for row in await tx.execute(statement)
        ]

    async def vouchers(self, tx: Tx, before: str | None, limit: int) -> list[VoucherMade]:
        """Those that operators have issued, the newest first."""
        statement = select(t.vouchers).where(_ISSUED).order_by(t.vouchers.c.id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(t.vouchers.c.id < before)
        now = self._clock.now()
        return [_voucher(row, now) for row in await tx.execute(statement)]

    async def sums(self, tx: Tx) -> Sums:
        """All of the network's money at once."""
        now = self._clock.now()
        unpaid = (await tx.execute(_summed(t.bills.c.paid_at.is_(None)))).one()
        day = (await tx.execute(_summed(_since(now - timedelta(days=1))))).one()
        month = (await tx.execute(_summed(_since(now - timedelta(days=30))))).one()
        left = t.vouchers.c.remaining_micros
        open_lots = select(_sum(left)).where(
            left > literal_column("0"), t.vouchers.c.expires_at > now
        )
        issued = select(_sum(t.vouchers.c.amount_micros)).where(
            _ISSUED, t.vouchers.c.redeemed_by.is_(None), t.vouchers.c.expires_at > now
        )
        return Sums(
            unpaid_bills=unpaid.bills,
            unpaid_micros=int(unpaid.micros),
            wallets_micros=int(await tx.scalar(select(_sum(t.accounts.c.wallet_micros))) or 0),
            vouchers_micros=int(await tx.scalar(open_lots) or 0),
            issued_micros=int(await tx.scalar(issued) or 0),
            day_micros=int(day.micros),
            day_micro_th=int(day.micro_th),
            month_micros=int(month.micros),
            month_micro_th=int(month.micro_th),
        )


def people(rows: Sequence[TopUpMade | VoucherMade]) -> set[UserId]:
    """Everybody whom these rows name by id."""
    found: set[UserId | None] = set()
    for row in rows:
        if isinstance(row, TopUpMade):
            found |= {row.user_id, row.by}
        else:
            found |= {row.for_user, row.issued_by, row.redeemed_by}
    return {one for one in found if one is not None}


def _since(at: datetime) -> Any:
    return t.bills.c.id >= earliest_id("bil", at)


def _summed(where: Any) -> Any:
    return select(
        func.count().label("bills"),
        _sum(t.bills.c.amount_micros).label("micros"),
        _sum(t.bills.c.micro_th).label("micro_th"),
    ).where(where)


def _sum(column: Any) -> Any:
    return func.coalesce(func.sum(column), 0)


def _voucher(row: Row[Any], now: datetime) -> VoucherMade:
    state = "open" if row.expires_at > now else "expired"
    return VoucherMade(
        id=row.id,
        amount_micros=row.amount_micros,
        for_user=row.for_user,
        issued_by=row.issued_by,
        issued_at=row.issued_at,
        expires_at=row.expires_at,
        redeemed_by=row.redeemed_by,
        redeemed_at=row.redeemed_at,
        state="redeemed" if row.redeemed_by is not None else state,
    )
