"""Background jobs on the same PostgreSQL: a job exists if, and only if, its transaction commits."""

from typing import Any

from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.tasks import Task

from tesra.db.engine import Tx, libpq_url

POOL_SIZE = 4


def make_jobs(database_url: str, *, pool_size: int = POOL_SIZE) -> App:
    """The job queue; no connection before ``async with app.open_async()``.

    Tasks are declared with ``@app.task`` (or on blueprints added to it), periodic ones also with
    ``@app.periodic(cron=...)``; ``app.run_worker_async`` runs them.
    """
    connector = PsycopgConnector(conninfo=libpq_url(database_url), min_size=1, max_size=pool_size)
    return App(connector=connector)


async def defer(tx: Tx, task: Task[..., Any, Any], **args: Any) -> int | None:
    """Queue ``task`` in the domain's own transaction; gives the job's id.

    None if the task has a queueing lock and a job of it waits already: that one will do.
    """
    driver = (await tx.get_raw_connection()).driver_connection
    job = task.configure(connection=driver)
    if task.queueing_lock is None:
        return await job.defer_async(**args)
    try:
        async with tx.begin_nested():  # a refused job must not spoil the transaction
            return await job.defer_async(**args)
    except AlreadyEnqueued:
        return None


async def defer_once(tx: Tx, jobs: App, name: str) -> int | None:
    """The same for a task without arguments that one waiting job is enough of."""
    driver = (await tx.get_raw_connection()).driver_connection
    job = jobs.configure_task(name, connection=driver, queueing_lock=name)
    try:
        async with tx.begin_nested():  # a refused job must not spoil the transaction
            deferred: int = await job.defer_async()
            return deferred
    except AlreadyEnqueued:
        return None


async def defer_named(tx: Tx, jobs: App, name: str, **args: Any) -> int:
    """``defer`` for a task that is declared elsewhere, by its whole name (``namespace:name``)."""
    driver = (await tx.get_raw_connection()).driver_connection
    job: int = await jobs.configure_task(name, connection=driver).defer_async(**args)
    return job
