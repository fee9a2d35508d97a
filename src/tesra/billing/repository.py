"""Loads and saves what billing decides; used by billing's services alone.

Every function runs in the caller's transaction. Money moves only through ``save_postings``.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BindParameter,
    ColumnElement,
    Row,
    Select,
    Text,
    any_,
    bindparam,
    cast,
    delete,
    false,
    func,
    insert,
    literal,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.dialects.postgresql import insert as upsert

from tesra.billing import tables as t
from tesra.billing.ledger import Posting
from tesra.billing.model import (
    Account,
    Bill,
    BillLine,
    BillSummary,
    Credit,
    DayBilled,
    Part,
    Payment,
    Price,
    RatedDevice,
    WalletEntry,
)
from tesra.billing.pricing import Stretch
from tesra.db.engine import Tx
from tesra.kit.ids import BillId, RunId, UserId

_MILLISECOND = cast(literal("1 millisecond"), INTERVAL)
_PRICES = select(t.prices).order_by(t.prices.c.effective_from)
_LINE_COLUMNS = [c for c in t.bill_lines.c if c.name not in {"bill_id", "number"}]


# accounts


async def open_account(tx: Tx, user_id: UserId) -> None:
    await tx.execute(upsert(t.accounts).values(user_id=user_id).on_conflict_do_nothing())


async def load_account(tx: Tx, user_id: UserId, *, lock: bool = False) -> Account | None:
    """The account row; ``lock`` holds it against every other movement of this user's money."""
    query = select(t.accounts).where(t.accounts.c.user_id == user_id)
    row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
    return None if row is None else Account(row.user_id, row.wallet_micros, row.autopay)


async def set_autopay(tx: Tx, user_id: UserId, on: bool) -> bool:
    query = update(t.accounts).where(t.accounts.c.user_id == user_id).values(autopay=on)
    return bool((await tx.execute(query)).rowcount)


async def set_exposure_limit(tx: Tx, user_id: UserId, limit_micros: int | None) -> bool:
    query = update(t.accounts).where(t.accounts.c.user_id == user_id)
    return bool((await tx.execute(query.values(exposure_limit_micros=limit_micros))).rowcount)


_unpaid = (
    select(func.coalesce(func.sum(t.bills.c.amount_micros), 0))
    .where(t.bills.c.user_id == t.accounts.c.user_id, t.bills.c.paid_at.is_(None))
    .scalar_subquery()
)
_vouchers = (
    select(func.coalesce(func.sum(t.vouchers.c.remaining_micros), 0))
    .where(
        t.vouchers.c.redeemed_by == t.accounts.c.user_id,
        t.vouchers.c.remaining_micros > literal_column("0"),
        t.vouchers.c.expires_at > bindparam("now"),
    )
    .scalar_subquery()
)
_CREDITS = select(
    t.accounts.c.user_id,
    t.accounts.c.wallet_micros,
    t.accounts.c.exposure_limit_micros,
    _unpaid.label("unpaid_micros"),
    _vouchers.label("vouchers_micros"),
).where(t.accounts.c.user_id == any_(bindparam("users", type_=ARRAY(Text))))


async def load_credits(
    tx: Tx, user_ids: Collection[UserId], *, now: datetime, default_limit_micros: int
) -> dict[UserId, Credit]:
    """Without locking: what is decided by it is looked at again soon."""
    rows = await tx.execute(_CREDITS, {"users": list(user_ids), "now": now})
    return {
        UserId(row.user_id): Credit(
            limit_micros=default_limit_micros
            if row.exposure_limit_micros is None
            else row.exposure_limit_micros,
            wallet_micros=row.wallet_micros,
            vouchers_micros=int(row.vouchers_micros),
            unpaid_micros=int(row.unpaid_micros),
        )
        for row in rows
    }


# prices


async def load_prices(tx: Tx) -> list[Price]:
    rows = await tx.execute(_PRICES)
    return [Price(row.id, row.price_micros_per_th, row.effective_from) for row in rows]


async def add_price(
    tx: Tx, operator_id: UserId, micros_per_th: int, *, effective_from: datetime
) -> Price | None:
    """The new price, or None when another one takes effect at the same time."""
    query = (
        upsert(t.prices)
        .values(
            price_micros_per_th=micros_per_th,
            effective_from=effective_from,
            created_by=operator_id,
        )
        .on_conflict_do_nothing(index_elements=["effective_from"])
        .returning(t.prices.c.id)
    )
    price_id = (await tx.execute(query)).scalar_one_or_none()
    return None if price_id is None else Price(price_id, micros_per_th, effective_from)


# usage


_price = (
    select(t.prices.c.price_micros_per_th)
    .where(t.prices.c.effective_from <= bindparam("starts"))
    .order_by(t.prices.c.effective_from.desc())
    .limit(1)
    .scalar_subquery()
)
_ADD_USAGE = upsert(t.usage_records).on_conflict_do_nothing().returning(_price)


async def add_usage(tx: Tx, stretch: Stretch, run_id: RunId) -> int | None:
    """The price it will be billed at when stored now or before; None when it contradicts."""
    row = {
        "attempt_id": stretch.attempt_id,
        "seq": stretch.first_seq,
        "run_id": run_id,
        "started_at": stretch.started_at,
        "duration_ms": stretch.duration_ms,
        "devices": [list(device) for device in stretch.devices],
    }
    asked = {"starts": stretch.started_at, **row}
    price_micros: int | None = (await tx.execute(_ADD_USAGE, asked)).scalar_one_or_none()
    if price_micros is not None:
        return price_micros
    stored = await tx.execute(
        select(*(t.usage_records.c[name] for name in row)).where(
            t.usage_records.c.attempt_id == stretch.attempt_id,
            t.usage_records.c.seq == stretch.first_seq,
        )
    )
    if dict(stored.one()._mapping) != row:
        return None
    return int((await tx.execute(select(_price), asked)).scalar_one())


async def usage_of(tx: Tx, part: Part) -> list[Stretch]:
    """The usage of one attempt, up to the record that the part's end lies in, which comes alone."""
    asked = {"owner": part.attempt_id, "limit_ms": part.until_ms}
    if part.until_ms is None:
        return _stretches(await tx.execute(_USAGE_OF, asked))
    return _stretches(await tx.execute(_USAGE_UNTIL, asked))


async def usage_of_run(tx: Tx, run_id: RunId) -> list[Stretch]:
    """All that a run's attempts used."""
    return _stretches(await tx.execute(_USAGE_OF_RUN, {"owner": run_id}))


def _merged(column: ColumnElement[str], limit_ms: BindParameter[int] | None = None) -> Select[Any]:
    """Usage merged in the database, so that a run of a month is a few rows; see ``pricing``."""
    r = select(t.usage_records).where(column == bindparam("owner")).subquery("r")
    after_ms = func.sum(r.c.duration_ms).over(partition_by=r.c.attempt_id, order_by=r.c.seq)
    is_last: ColumnElement[bool] = after_ms > limit_ms if limit_ms is not None else false()
    before_ms = after_ms - r.c.duration_ms
    u = select(*r.c, is_last.label("is_last"), before_ms.label("before_ms")).subquery("u")
    price_id = (
        select(t.prices.c.id)
        .where(t.prices.c.effective_from <= u.c.started_at)
        .order_by(t.prices.c.effective_from.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = select(*u.c, price_id.label("price_id"))
    if limit_ms is not None:
        query = query.where(u.c.before_ms < limit_ms)
    p = query.subquery("p")
    same = (p.c.attempt_id, p.c.devices, p.c.price_id, p.c.is_last)
    island = (
        func.row_number().over(partition_by=p.c.attempt_id, order_by=p.c.seq)
        - func.row_number().over(partition_by=same, order_by=p.c.seq)
    ).label("island")
    i = select(p, island).subquery("i")
    end = i.c.started_at + i.c.duration_ms * _MILLISECOND
    return select(
        i.c.attempt_id,
        i.c.devices,
        func.min(i.c.seq).label("first_seq"),
        func.max(i.c.seq).label("last_seq"),
        func.min(i.c.started_at).label("started_at"),
        func.max(end).label("ended_at"),
        cast(func.sum(i.c.duration_ms), t.usage_records.c.duration_ms.type).label("ms"),
    ).group_by(i.c.attempt_id, i.c.devices, i.c.price_id, i.c.is_last, i.c.island)


_USAGE_OF = _merged(t.usage_records.c.attempt_id)
_USAGE_UNTIL = _merged(
    t.usage_records.c.attempt_id, bindparam("limit_ms", type_=t.usage_records.c.duration_ms.type)
)
_USAGE_OF_RUN = _merged(t.usage_records.c.run_id)


def _stretches(rows: Iterable[Row[Any]]) -> list[Stretch]:
    return [
        Stretch(
            row.attempt_id,
            tuple(RatedDevice(*device) for device in row.devices),
            row.first_seq,
            row.last_seq,
            row.started_at,
            row.ended_at,
            row.ms,
        )
        for row in rows
    ]


# bills


async def add_bill(tx: Tx, bill: BillSummary, *, paid: bool) -> datetime | None:
    """When the bill was made, or None when its run has one already."""
    query = (
        upsert(t.bills)
        .values(
            id=bill.id,
            run_id=bill.run_id,
            user_id=bill.user_id,
            amount_micros=bill.amount_micros,
            micro_th=bill.micro_th,
            note=bill.note,
            paid_at=func.now() if paid else None,
        )
        .on_conflict_do_nothing(index_elements=["run_id"])
        .returning(t.bills.c.created_at)
    )
    made_at: datetime | None = (await tx.execute(query)).scalar_one_or_none()
    return made_at


async def add_lines(tx: Tx, bill_id: BillId, lines: Sequence[BillLine]) -> None:
    rows = [
        {"bill_id": bill_id, "number": number, **asdict(line)}
        for number, line in enumerate(lines, start=1)
    ]
    if rows:
        await tx.execute(insert(t.bill_lines), rows)


async def put_lines_aside(tx: Tx, subject: str, lines: Sequence[BillLine]) -> None:
    rows = [{"subject": subject, **asdict(line)} for line in lines]
    if rows:
        await tx.execute(insert(t.lines_aside), rows)


async def lines_aside(tx: Tx, subject: str) -> tuple[BillLine, ...]:
    """In the order of trials, then of use."""
    own = t.lines_aside.c
    query = select(*(own[column.name] for column in _LINE_COLUMNS)).where(own.subject == subject)
    rows = await tx.execute(query.order_by(own.trial, own.run_id, own.seq))
    return tuple(BillLine(**row._mapping) for row in rows)


async def sum_aside(tx: Tx, subject: str) -> tuple[int, int]:
    """Micro-yuan and micro-T·H of what is set aside."""
    own = t.lines_aside.c
    sums = (func.coalesce(func.sum(column), 0) for column in (own.amount_micros, own.micro_th))
    amount, th = (await tx.execute(select(*sums).where(own.subject == subject))).one()
    return int(amount), int(th)


async def clear_aside(tx: Tx, subject: str) -> None:
    await tx.execute(delete(t.lines_aside).where(t.lines_aside.c.subject == subject))


async def mark_paid(tx: Tx, bill_id: BillId) -> None:
    await tx.execute(update(t.bills).where(t.bills.c.id == bill_id).values(paid_at=func.now()))


async def load_bill(tx: Tx, user_id: UserId, bill_id: BillId) -> Bill | None:
    query = select(t.bills).where(t.bills.c.id == bill_id, t.bills.c.user_id == user_id)
    return await _whole(tx, (await tx.execute(query)).one_or_none())


async def load_bill_of_run(tx: Tx, run_id: RunId) -> Bill | None:
    query = select(t.bills).where(t.bills.c.run_id == run_id)
    return await _whole(tx, (await tx.execute(query)).one_or_none())


async def list_bills(
    tx: Tx, user_id: UserId, *, before: str | None, limit: int, paid: bool | None = None
) -> list[BillSummary]:
    """Newest first; ``before`` is the id that the last page ended with."""
    query = select(t.bills).where(t.bills.c.user_id == user_id)
    if paid is not None:
        query = query.where(t.bills.c.paid_at.is_not(None) if paid else t.bills.c.paid_at.is_(None))
    if before is not None:
        query = query.where(t.bills.c.id < before)
    rows = await tx.execute(query.order_by(t.bills.c.id.desc()).limit(limit))
    return [BillSummary(**_summary(row)) for row in rows]


async def billed_by_day(tx: Tx, user_id: UserId, *, since: datetime) -> list[DayBilled]:
    """The days (UTC) on which bills were made, the oldest first."""
    day = func.date_trunc("day", t.bills.c.created_at, "UTC").label("day")
    rows = await tx.execute(
        select(
            day,
            func.count().label("bills"),
            func.sum(t.bills.c.amount_micros).label("amount"),
            func.sum(t.bills.c.micro_th).label("th"),
        )
        .where(t.bills.c.user_id == user_id, t.bills.c.created_at >= since)
        .group_by(day)
        .order_by(day)
    )
    return [
        DayBilled(row.day.astimezone(UTC).date(), row.bills, int(row.amount), int(row.th))
        for row in rows
    ]


async def oldest_unpaid(tx: Tx, user_id: UserId) -> BillSummary | None:
    query = select(t.bills).where(t.bills.c.user_id == user_id, t.bills.c.paid_at.is_(None))
    row = (await tx.execute(query.order_by(t.bills.c.id).limit(1))).one_or_none()
    return None if row is None else BillSummary(**_summary(row))


async def unpaid_users(tx: Tx, user_ids: Collection[UserId]) -> set[UserId]:
    query = select(t.bills.c.user_id).where(
        t.bills.c.user_id.in_(user_ids), t.bills.c.paid_at.is_(None)
    )
    return set((await tx.execute(query.distinct())).scalars())


async def unpaid_micros(tx: Tx, user_id: UserId) -> int:
    query = select(func.coalesce(func.sum(t.bills.c.amount_micros), 0)).where(
        t.bills.c.user_id == user_id, t.bills.c.paid_at.is_(None)
    )
    return int((await tx.execute(query)).scalar_one())


async def _whole(tx: Tx, row: Row[Any] | None) -> Bill | None:
    if row is None:
        return None
    lines = await tx.execute(
        select(*_LINE_COLUMNS)
        .where(t.bill_lines.c.bill_id == row.id)
        .order_by(t.bill_lines.c.number)
    )
    payments = await tx.execute(
        select(t.postings.c.kind, t.postings.c.at, t.entries.c.amount_micros)
        .join(t.entries, t.entries.c.posting_key == t.postings.c.key)
        .where(
            t.postings.c.bill_id == row.id,
            t.postings.c.kind.in_(["voucher", "payment"]),
            t.entries.c.account.startswith("owed:"),
        )
        .order_by(t.entries.c.id)
    )
    return Bill(
        **_summary(row),
        lines=tuple(BillLine(**line._mapping) for line in lines),
        payments=tuple(
            Payment("voucher" if p.kind == "voucher" else "wallet", p.amount_micros, p.at)
            for p in payments
        ),
    )


def _summary(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "run_id": row.run_id,
        "user_id": row.user_id,
        "amount_micros": row.amount_micros,
        "micro_th": row.micro_th,
        "note": row.note,
        "created_at": row.created_at,
        "paid_at": row.paid_at,
    }


# ledger


async def save_postings(tx: Tx, postings: Sequence[Posting]) -> None:
    """Append; a key that exists already is an error of the caller's and fails the transaction."""
    if not postings:
        return
    await tx.execute(insert(t.postings), [_posting_row(posting) for posting in postings])
    await tx.execute(insert(t.entries), [row for p in postings for row in _entry_rows(p)])


async def save_posting_once(tx: Tx, posting: Posting) -> bool:
    """Append unless the key exists; True when appended."""
    query = upsert(t.postings).values(_posting_row(posting)).on_conflict_do_nothing()
    if (await tx.execute(query.returning(t.postings.c.key))).one_or_none() is None:
        return False
    await tx.execute(insert(t.entries), _entry_rows(posting))
    return True


async def wallet_entries(tx: Tx, user_id: UserId, *, limit: int) -> list[WalletEntry]:
    """The latest movements of the user's wallet and vouchers, newest first."""
    query = (
        select(t.postings.c.at, t.postings.c.kind, t.entries.c.amount_micros, t.postings.c.memo)
        .join(t.entries, t.entries.c.posting_key == t.postings.c.key)
        .where(
            t.postings.c.user_id == user_id,
            t.entries.c.account.startswith("wallet:") | t.entries.c.account.startswith("voucher:"),
        )
        .order_by(t.postings.c.at.desc(), t.entries.c.id.desc())
        .limit(limit)
    )
    return [WalletEntry(**row._mapping) for row in await tx.execute(query)]


def _posting_row(posting: Posting) -> dict[str, Any]:
    return {
        "key": posting.key,
        "kind": posting.kind.value,
        "user_id": posting.user_id,
        "bill_id": posting.bill_id,
        "memo": posting.memo,
    }


def _entry_rows(posting: Posting) -> list[dict[str, Any]]:
    return [
        {"posting_key": posting.key, "account": e.account, "amount_micros": e.amount_micros}
        for e in posting.entries
    ]
