"""Logins that failed and accounts that were made, counted by name and address.

Used by ``identity.service`` alone.
"""

from datetime import timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Table,
    Text,
    delete,
    func,
    insert,
    literal,
    select,
)

from tesra.db.engine import Tx, metadata

_time = DateTime(timezone=True)

login_attempts = Table(
    "login_attempts",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("name_key", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("at", _time, nullable=False, server_default=func.now()),
    Index("ix_login_attempts_name_key_at", "name_key", "at"),
    Index("ix_login_attempts_address_at", "address", "at"),
)

registrations = Table(
    "registrations",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("address", Text, nullable=False),
    Column("at", _time, nullable=False, server_default=func.now()),
    Index("ix_registrations_address_at", "address", "at"),
)


async def lock_logins(tx: Tx, name_key: str, address: str) -> None:
    """Attempts at one name, and from one address, are counted one after the other."""
    for text in sorted((f"login name {name_key}", f"login address {address}")):
        await _lock(tx, text)


async def lock_registrations(tx: Tx, address: str) -> None:
    """Accounts made from one address are counted one after the other."""
    await _lock(tx, f"registration address {address}")


async def seconds_until_admitted(
    tx: Tx, column: Column[Any], *, value: str, limit: int, window: timedelta
) -> float | None:
    """None when fewer than ``limit`` rows with the value lie in the window, else how long that takes."""
    at = column.table.c.at
    statement = (
        select(func.extract("epoch", at + literal(window) - func.now()))
        .where(column == value, at > func.now() - literal(window))
        .order_by(at.desc())
        .offset(limit - 1)
        .limit(1)
    )
    seconds = await tx.scalar(statement)
    return None if seconds is None else float(seconds)


async def add_registration(tx: Tx, address: str) -> None:
    await tx.execute(insert(registrations).values(address=address))


async def add_attempt(tx: Tx, name_key: str, address: str) -> None:
    await tx.execute(insert(login_attempts).values(name_key=name_key, address=address))


async def clear_attempts(tx: Tx, name_key: str) -> None:
    await tx.execute(delete(login_attempts).where(login_attempts.c.name_key == name_key))


async def purge(tx: Tx, *, older_than: timedelta) -> int:
    """Forgets what was counted so long ago; returns how many rows."""
    gone = 0
    for table in (login_attempts, registrations):
        old = table.c.at < func.now() - literal(older_than)
        gone += (await tx.execute(delete(table).where(old))).rowcount
    return gone


async def _lock(tx: Tx, text: str) -> None:
    await tx.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(text, 0))))
