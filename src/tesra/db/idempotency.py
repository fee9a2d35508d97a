"""Answers kept by (user, key), so that a repeated request is answered and not acted on again.

The answer is stored in the transaction that acted; what it holds is sealed by the caller.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Column, DateTime, LargeBinary, Table, Text, delete, func, select, text

from tesra.db.engine import Tx, metadata

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_hash", LargeBinary, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What was answered to the request with this hash."""

    request_hash: bytes
    answer: bytes
    created_at: datetime


async def lock(tx: Tx, user_id: str, key: str) -> None:
    """Until this transaction ends, no other one with the same user and key gets past here."""
    name = f"idempotency:{len(user_id)}:{user_id}:{key}"
    await tx.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name}
    )


async def find(tx: Tx, user_id: str, key: str) -> StoredAnswer | None:
    """The stored answer, or None if the key is new."""
    columns = idempotency_keys.c
    statement = select(columns.request_hash, columns.answer, columns.created_at)
    row = (
        await tx.execute(statement.where(columns.user_id == user_id, columns.key == key))
    ).one_or_none()
    return StoredAnswer(row.request_hash, row.answer, row.created_at) if row else None


async def store(tx: Tx, user_id: str, key: str, *, request_hash: bytes, answer: bytes) -> None:
    """Keep the answer; a second one for the same key is an error of the caller."""
    await tx.execute(
        idempotency_keys.insert().values(
            user_id=user_id, key=key, request_hash=request_hash, answer=answer
        )
    )


async def purge(tx: Tx, older_than: timedelta) -> int:
    """Forget answers older than this; gives how many."""
    statement = delete(idempotency_keys).where(
        idempotency_keys.c.created_at < func.now() - older_than
    )
    return (await tx.execute(statement)).rowcount
