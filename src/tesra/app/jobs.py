"""Jobs that the server does when asked or by the clock; each is queued in its domain's transaction."""

from datetime import timedelta

from procrastinate import Blueprint

from tesra.db import idempotency
from tesra.web.context import Services

GIT_IMPORT_TASK = "projects:import_git"
ANSWERS_KEPT = timedelta(days=2)  # an idempotency key is good for so long


def declare_tasks(services: Services) -> None:
    """Teach this process's worker all tasks; once per process."""
    services.jobs.add_tasks_from(_projects(services), namespace="projects")
    services.jobs.add_tasks_from(_housekeeping(services), namespace="housekeeping")


def _projects(services: Services) -> Blueprint:
    tasks = Blueprint()

    @tasks.task(name="import_git")
    async def import_git(job: str) -> None:
        await services.git_imports.run(job)

    @tasks.periodic(cron="*/5 * * * *")
    @tasks.task(name="resume_imports", queueing_lock="resume_imports")
    async def resume_imports(timestamp: int) -> None:  # noqa: ARG001 - procrastinate passes it
        await services.git_imports.resume()

    return tasks


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

    @tasks.periodic(cron="37 * * * *")
    @tasks.task(name="sweep_packs", queueing_lock="sweep_packs")
    async def sweep_packs(timestamp: int) -> None:  # noqa: ARG001 - procrastinate passes it
        await services.drive.sweep_orphans()

    return tasks
