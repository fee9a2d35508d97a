"""Loads and saves vouchers and postings as a whole; used by billing's services alone."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, literal_column, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from tesra.billing import tables as t
from tesra.billing.ledger import Entry, Posting, PostingKind
from tesra.billing.model import Voucher, VoucherLot, VoucherOrigin
from tesra.db.engine import Tx
from tesra.kit.ids import UserId

# Written out, not bound: a prepared statement finds a partial index only by its very condition.
_SOMETHING_LEFT = t.vouchers.c.remaining_micros > literal_column("0")


async def add_voucher(
    tx: Tx, voucher: Voucher, *, code_hash: bytes | None, issued_by: UserId | None
) -> bool:
    """False when this user has had a welcome voucher already."""
    query = (
        upsert(t.vouchers)
        .values(
            id=voucher.id,
            code_hash=code_hash,
            origin=voucher.origin.value,
            amount_micros=voucher.amount_micros,
            for_user=voucher.for_user,
            issued_by=issued_by,
            expires_at=voucher.expires_at,
            redeemed_by=voucher.redeemed_by,
            redeemed_at=None if voucher.redeemed_by is None else func.now(),
        )
        .on_conflict_do_nothing(
            index_elements=["redeemed_by"], index_where=text("origin = 'welcome'")
        )
        .returning(t.vouchers.c.id)
    )
    return (await tx.execute(query)).one_or_none() is not None


async def lock_voucher(tx: Tx, code_hash: bytes) -> Voucher | None:
    """The voucher of a code, held so that nobody else redeems it meanwhile."""
    query = select(t.vouchers).where(t.vouchers.c.code_hash == code_hash).with_for_update()
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        return None
    origin = VoucherOrigin(row.origin)
    return Voucher(row.id, origin, row.amount_micros, row.for_user, row.redeemed_by, row.expires_at)


async def mark_redeemed(tx: Tx, lot: VoucherLot, user_id: UserId) -> None:
    query = update(t.vouchers).where(t.vouchers.c.id == lot.id)
    await tx.execute(query.values(redeemed_by=user_id, redeemed_at=func.now()))


async def open_lots(tx: Tx, user_id: UserId) -> list[VoucherLot]:
    """Lots with something left, expired ones too, the soonest to expire first."""
    query = (
        select(t.vouchers)
        .where(t.vouchers.c.redeemed_by == user_id, _SOMETHING_LEFT)
        .order_by(t.vouchers.c.expires_at, t.vouchers.c.id)
    )
    return [
        VoucherLot(
            row.id,
            VoucherOrigin(row.origin),
            row.amount_micros,
            row.remaining_micros,
            row.expires_at,
        )
        for row in await tx.execute(query)
    ]


async def welcome_lot(tx: Tx, user_id: UserId) -> VoucherLot:
    query = select(t.vouchers).where(
        t.vouchers.c.redeemed_by == user_id, t.vouchers.c.origin == VoucherOrigin.WELCOME.value
    )
    row = (await tx.execute(query)).one()
    return VoucherLot(
        row.id,
        VoucherOrigin.WELCOME,
        row.amount_micros,
        row.remaining_micros,
        row.expires_at,
    )


async def lock_owners_of_expired(tx: Tx, now: datetime, *, limit: int) -> list[UserId]:
    """Users with expired lots whose account nobody else holds; their account rows are locked."""
    owners = (
        select(t.vouchers.c.redeemed_by)
        .where(_SOMETHING_LEFT, t.vouchers.c.expires_at <= now)
        .distinct()
    )
    query = (
        select(t.accounts.c.user_id)
        .where(t.accounts.c.user_id.in_(owners))
        .order_by(t.accounts.c.user_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return list((await tx.execute(query)).scalars())


async def expired_lots(
    tx: Tx, user_ids: Sequence[UserId], now: datetime
) -> list[tuple[UserId, VoucherLot]]:
    query = select(t.vouchers).where(
        t.vouchers.c.redeemed_by.in_(user_ids),
        _SOMETHING_LEFT,
        t.vouchers.c.expires_at <= now,
    )
    return [
        (
            row.redeemed_by,
            VoucherLot(
                row.id,
                VoucherOrigin(row.origin),
                row.amount_micros,
                row.remaining_micros,
                row.expires_at,
            ),
        )
        for row in await tx.execute(query)
    ]


async def load_posting(tx: Tx, key: str) -> Posting | None:
    query = (
        select(t.postings, t.entries.c.account, t.entries.c.amount_micros)
        .join(t.entries, t.entries.c.posting_key == t.postings.c.key)
        .where(t.postings.c.key == key)
        .order_by(t.entries.c.id)
    )
    rows = (await tx.execute(query)).all()
    if not rows:
        return None
    head = rows[0]
    moved = tuple(Entry(row.account, row.amount_micros) for row in rows)
    return Posting(head.key, PostingKind(head.kind), head.user_id, moved, head.bill_id, head.memo)
