"""Wake-ups: sent at commit, heard by all subscribers, never relied upon alone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import text

from tesra.db.engine import Database
from tesra.db.notify import PENDING_LIMIT, Listener, Subscription, notify

pytestmark = pytest.mark.postgres

WAIT_S = 10.0
SHORT_S = 0.2


@pytest_asyncio.fixture
async def listener(database: Database) -> AsyncIterator[Listener]:
    """A listener that runs and is connected."""
    listener = Listener(database.url)
    with listener.subscribe("connected") as connected:
        task = asyncio.create_task(listener.run())
        await connected.wait(WAIT_S)
    yield listener
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def send(database: Database, topic: str, **ids: str | int) -> None:
    async with database.begin() as tx:
        await notify(tx, topic, **ids)


async def test_a_subscriber_gets_the_ids_of_its_topic(
    database: Database, listener: Listener
) -> None:
    with listener.subscribe("run") as runs, listener.subscribe("bill") as bills:
        await send(database, "run", run="run_1", offset=7)
        assert await runs.wait(WAIT_S) == [{"run": "run_1", "offset": 7}]
        assert await bills.wait(0) == []


async def test_every_subscriber_gets_every_wake_up(database: Database, listener: Listener) -> None:
    with listener.subscribe("run") as one, listener.subscribe("run") as other:
        await send(database, "run", run="run_1")
        assert await one.wait(WAIT_S) == await other.wait(WAIT_S) == [{"run": "run_1"}]


async def test_equal_wake_ups_are_handed_over_once_in_order(
    database: Database, listener: Listener
) -> None:
    with listener.subscribe("run") as runs, listener.subscribe("end") as end:
        for run in ("b", "a", "b"):
            await send(database, "run", run=run)
        await send(database, "end")
        await end.wait(WAIT_S)
        assert await runs.wait(WAIT_S) == [{"run": "b"}, {"run": "a"}]


async def test_a_rolled_back_transaction_wakes_nobody(
    database: Database, listener: Listener
) -> None:
    with listener.subscribe("run") as runs, listener.subscribe("end") as end:
        async with database.begin() as tx:
            await notify(tx, "run", run="run_1")
            await tx.rollback()
        await send(database, "end")
        await end.wait(WAIT_S)
        assert await runs.wait(0) == []


async def test_what_came_before_the_wait_is_handed_over_without_waiting(
    database: Database, listener: Listener
) -> None:
    with listener.subscribe("run") as runs, listener.subscribe("end") as end:
        await send(database, "run", run="run_1")
        await send(database, "end")
        await end.wait(WAIT_S)
        assert await runs.wait(0) == [{"run": "run_1"}]
        assert await runs.wait(0) == []


async def test_waiting_ends_with_nothing_at_the_time_out(listener: Listener) -> None:
    with listener.subscribe("silence") as subscription:
        assert await subscription.wait(SHORT_S) == []


async def test_a_broken_connection_is_made_again_and_wakes_every_subscriber(
    database: Database, listener: Listener
) -> None:
    with listener.subscribe("run") as runs, listener.subscribe("bill") as bills:
        async with database.begin() as tx:
            killed = await tx.scalar(
                text(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE query = 'LISTEN tesra' AND datname = current_database()"
                )
            )
        assert killed == 1
        async with asyncio.timeout(WAIT_S):
            assert await runs.wait(60) == []
            assert await bills.wait(60) == []
        await send(database, "run", run="run_1")
        assert await runs.wait(WAIT_S) == [{"run": "run_1"}]


async def test_foreign_payloads_on_the_channel_are_ignored(
    database: Database, listener: Listener
) -> None:
    with listener.subscribe("run") as runs:
        async with database.begin() as tx:
            for payload in ("not json", "[]", "{}", '"text"', '{"topic": ["x"]}', '{"topic": {}}'):
                await tx.execute(text("SELECT pg_notify('tesra', :payload)"), {"payload": payload})
        await send(database, "run", run="run_1")
        assert await runs.wait(WAIT_S) == [{"run": "run_1"}]


async def test_a_payload_that_is_too_long_is_refused_where_it_is_sent(database: Database) -> None:
    async with database.begin() as tx:
        with pytest.raises(ValueError, match="ids only"):
            await notify(tx, "run", run="x" * 8000)


async def test_a_slow_subscriber_is_told_to_look_at_everything() -> None:
    subscription = Subscription()
    for number in range(PENDING_LIMIT + 1):
        subscription.add({"n": number})
    async with asyncio.timeout(WAIT_S):
        assert await subscription.wait(60) == []
