"""Jobs: they exist with their transaction, and a worker runs them."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from procrastinate import App
from sqlalchemy import text

from factories.clusters import FreshDatabase
from tesra.db.engine import Database
from tesra.db.jobs import defer, make_jobs

pytestmark = pytest.mark.postgres

COUNT = text("SELECT count(*) FROM procrastinate_jobs")


@pytest_asyncio.fixture
async def domain(fresh_database: FreshDatabase) -> Database:
    return await fresh_database()


@pytest_asyncio.fixture
async def jobs(domain: Database) -> AsyncIterator[App]:
    app = make_jobs(domain.url)
    async with app.open_async():
        yield app


async def count(domain: Database) -> int:
    async with domain.begin() as tx:
        return int(await tx.scalar(COUNT) or 0)


async def test_a_job_of_a_rolled_back_transaction_never_was(domain: Database, jobs: App) -> None:
    @jobs.task(name="greet")
    async def greet(name: str) -> None: ...

    async with domain.begin() as tx:
        assert await defer(tx, greet, name="a") is not None
        assert await tx.scalar(COUNT) == 1
        await tx.rollback()
    assert await count(domain) == 0


async def test_a_job_of_a_committed_transaction_is_run_by_a_worker(
    domain: Database, jobs: App
) -> None:
    seen: list[str] = []

    @jobs.task(name="greet")
    async def greet(name: str) -> None:
        seen.append(name)

    async with domain.begin() as tx:
        await defer(tx, greet, name="星盘")
        assert await count(domain) == 0, "visible before the commit"
    assert await count(domain) == 1
    await jobs.run_worker_async(wait=False, install_signal_handlers=False)
    assert seen == ["星盘"]


async def test_the_transaction_goes_on_after_a_job_is_deferred(domain: Database, jobs: App) -> None:
    @jobs.task(name="greet")
    async def greet() -> None: ...

    async with domain.begin() as tx:
        await tx.execute(text("INSERT INTO leases VALUES ('a', 'b', 1, now())"))
        await defer(tx, greet)
        assert await tx.scalar(text("SELECT holder AS h FROM leases")) == "b"
    assert await count(domain) == 1


async def test_a_second_job_of_a_queueing_lock_is_left_out_and_spoils_nothing(
    domain: Database, jobs: App
) -> None:
    @jobs.task(name="sweep", queueing_lock="sweep")
    async def sweep() -> None: ...

    async with domain.begin() as tx:
        assert await defer(tx, sweep) is not None
        assert await defer(tx, sweep) is None
        await tx.execute(text("INSERT INTO leases VALUES ('a', 'b', 1, now())"))
    assert await count(domain) == 1


async def test_a_worker_that_waits_runs_a_new_job_and_periodic_ones(
    domain: Database, jobs: App
) -> None:
    deferred, ticked = asyncio.Event(), asyncio.Event()

    @jobs.task(name="greet")
    async def greet() -> None:
        deferred.set()

    @jobs.periodic(cron="* * * * * *")
    @jobs.task(name="tick")
    async def tick(timestamp: int) -> None:
        ticked.set()

    worker = asyncio.create_task(
        jobs.run_worker_async(install_signal_handlers=False, shutdown_graceful_timeout=5)
    )
    try:
        async with domain.begin() as tx:
            await defer(tx, greet)
        async with asyncio.timeout(20):
            await deferred.wait()
            await ticked.wait()
    finally:
        worker.cancel()
        await asyncio.wait({worker})
