"""Second factors, recovery codes and the account's log; used by ``identity``'s services alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from tesra.db.engine import Tx, metadata
from tesra.identity.account_events import AccountEvent, EventKind
from tesra.identity.repository import users
from tesra.kit.ids import UserId, new_id

_time = DateTime(timezone=True)

second_factors = Table(
    "second_factors",
    metadata,
    Column("user_id", Text, ForeignKey("users.id"), primary_key=True),
    Column("sealed_secret", LargeBinary, nullable=False),
    Column("begun_at", _time, nullable=False, server_default=func.now()),
    Column("confirmed_at", _time),
    Column("last_step", BigInteger),
)

recovery_codes = Table(
    "recovery_codes",
    metadata,
    Column("user_id", Text, ForeignKey("users.id"), primary_key=True),
    Column("code_hash", LargeBinary, primary_key=True),
)

account_events = Table(
    "account_events",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", Text, ForeignKey("users.id"), nullable=False),
    Column("actor_id", Text, ForeignKey("users.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("note", Text),
    Column("at", _time, nullable=False, server_default=func.now()),
    Index("ix_account_events_user_id_id", "user_id", "id"),
)


@dataclass(frozen=True, slots=True)
class StoredFactor:
    """``confirmed_at`` is None while it waits for its first code."""

    sealed_secret: bytes
    confirmed_at: datetime | None
    last_step: int | None


async def factor(tx: Tx, user_id: UserId, *, lock: bool = False) -> StoredFactor | None:
    columns = second_factors.c
    statement = select(columns.sealed_secret, columns.confirmed_at, columns.last_step).where(
        columns.user_id == user_id
    )
    if lock:
        statement = statement.with_for_update()
    row = (await tx.execute(statement)).one_or_none()
    return StoredFactor(bytes(row.sealed_secret), row.confirmed_at, row.last_step) if row else None


async def begin(tx: Tx, user_id: UserId, sealed_secret: bytes) -> bool:
    """Stores a secret that waits for its first code; False when one is confirmed already."""
    fresh: dict[str, Any] = {"sealed_secret": sealed_secret, "begun_at": func.now()}
    statement = (
        upsert(second_factors)
        .values(user_id=user_id, **fresh)
        .on_conflict_do_update(
            index_elements=[second_factors.c.user_id],
            set_=fresh,
            where=second_factors.c.confirmed_at.is_(None),
        )
        .returning(second_factors.c.user_id)
    )
    return (await tx.execute(statement)).one_or_none() is not None


async def accept_step(tx: Tx, user_id: UserId, step: int) -> None:
    """No code of this step or before is accepted again; the first one confirms the factor."""
    columns = second_factors.c
    await tx.execute(
        update(second_factors)
        .where(columns.user_id == user_id)
        .values(last_step=step, confirmed_at=func.coalesce(columns.confirmed_at, func.now()))
    )


async def remove(tx: Tx, user_id: UserId) -> bool:
    """Forgets the factor and its codes; whether it was on."""
    await tx.execute(delete(recovery_codes).where(recovery_codes.c.user_id == user_id))
    columns = second_factors.c
    gone = await tx.execute(
        delete(second_factors).where(columns.user_id == user_id).returning(columns.confirmed_at)
    )
    return gone.scalar_one_or_none() is not None


async def replace_codes(tx: Tx, user_id: UserId, hashes: Iterable[bytes]) -> None:
    await tx.execute(delete(recovery_codes).where(recovery_codes.c.user_id == user_id))
    rows = [{"user_id": user_id, "code_hash": code} for code in hashes]
    await tx.execute(insert(recovery_codes), rows)


async def use_code(tx: Tx, user_id: UserId, code_hash: bytes) -> bool:
    """Whether there was such a code; there is none now."""
    columns = recovery_codes.c
    gone = await tx.execute(
        delete(recovery_codes).where(columns.user_id == user_id, columns.code_hash == code_hash)
    )
    return bool(gone.rowcount)


async def codes_left(tx: Tx, user_id: UserId) -> int:
    statement = select(func.count()).where(recovery_codes.c.user_id == user_id)
    return int(await tx.scalar(statement) or 0)


async def add_event(
    tx: Tx, user_id: UserId, kind: EventKind, *, actor: UserId, note: str | None = None
) -> None:
    await tx.execute(
        insert(account_events).values(
            id=new_id("evt"), user_id=user_id, actor_id=actor, kind=kind.value, note=note
        )
    )


async def list_events(
    tx: Tx, user_id: UserId, *, after: str | None, limit: int
) -> list[AccountEvent]:
    """Newest first."""
    columns = account_events.c
    statement = (
        select(columns.id, columns.kind, columns.note, columns.at, users.c.name.label("actor"))
        .join(users, users.c.id == columns.actor_id)
        .where(columns.user_id == user_id)
        .order_by(columns.id.desc())
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(columns.id < after)
    return [
        AccountEvent(row.id, EventKind(row.kind), row.actor, row.note, row.at)
        for row in await tx.execute(statement)
    ]
