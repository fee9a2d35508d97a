"""Jobs that the server does by the clock: what has ended is cleared away."""

from datetime import timedelta

from procrastinate import App, Blueprint

from tesra.db import idempotency
from tesra.db.jobs import make_jobs
from tesra.web.context import Services

ANSWERS_KEPT = timedelta(days=2)  # an idempotency key is good for so long


def make_app_jobs(services: Services) -> App:
    """The job queue with all tasks of this server."""
    jobs = make_jobs(services.database.url)
    jobs.add_tasks_from(_housekeeping(services), namespace="housekeeping")
    return jobs


def _housekeeping(services: Services) -> Blueprint:
    tasks = Blueprint()

    @tasks.periodic(cron="*/10 * * * *")
    @tasks.task(name="expire_vouchers", queueing_lock="expire_vouchers")
    async def expire_vouchers(timestamp: int) -> None:  # noqa: ARG001 - procrastinate passes it
        async with services.database.begin() as tx:
            await services.billing.expire_vouchers(tx)

    @tasks.periodic(cron="17 * * * *")
    @tasks.task(name="purge_expired", queueing_lock="purge_expired")
    async def purge_expired(timestamp: int) -> None:  # noqa: ARG001 - procrastinate passes it
        async with services.database.begin() as tx:
            await services.identity.purge_expired(tx)
            await idempotency.purge(tx, ANSWERS_KEPT)

    return tasks
