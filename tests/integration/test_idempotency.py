"""Stored answers: one per user and key, and one request at a time."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from factories.clusters import FreshDatabase
from tesra.db import idempotency
from tesra.db.engine import Tx

pytestmark = pytest.mark.postgres


async def test_a_stored_answer_is_found_by_its_user_and_key_alone(tx: Tx) -> None:
    await idempotency.store(tx, "user_1", "k", request_hash=b"h", answer=b"sealed")
    found = await idempotency.find(tx, "user_1", "k")
    assert found is not None
    assert (found.request_hash, found.answer) == (b"h", b"sealed")
    assert await idempotency.find(tx, "user_2", "k") is None
    assert await idempotency.find(tx, "user_1", "other") is None


async def test_purging_forgets_old_answers_and_keeps_new_ones(tx: Tx) -> None:
    for key in ("old", "new"):
        await idempotency.store(tx, "user_1", key, request_hash=b"h", answer=b"a")
    await tx.execute(
        text("UPDATE idempotency_keys SET created_at = now() - interval '2 days' WHERE key = 'old'")
    )
    assert await idempotency.purge(tx, timedelta(days=1)) == 1
    assert await idempotency.find(tx, "user_1", "old") is None
    assert await idempotency.find(tx, "user_1", "new") is not None


async def test_requests_with_the_same_key_act_one_after_the_other(
    fresh_database: FreshDatabase,
) -> None:
    database = await fresh_database()

    async def act() -> str:
        async with database.begin() as tx:
            await idempotency.lock(tx, "user_1", "k")
            if await idempotency.find(tx, "user_1", "k"):
                return "replayed"
            await asyncio.sleep(0)
            await idempotency.store(tx, "user_1", "k", request_hash=b"h", answer=b"a")
            return "acted"

    assert sorted(await asyncio.gather(*(act() for _ in range(8)))) == ["acted"] + ["replayed"] * 7
