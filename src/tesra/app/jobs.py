"""Jobs that the server does when asked or by the clock; each is queued in its domain's transaction."""

from datetime import timedelta
from typing import Any

from procrastinate import Blueprint, RetryStrategy

from tesra.db import idempotency, job_board
from tesra.notices.service import CODE_JOB, DELIVERY_JOB
from tesra.web.context import Services

GIT_IMPORT_TASK = "projects:import_git"
NOTICES = "notices"
REPAIR_TASK = "storage:repair"
# 8 tries: after 4 s, 16 s, 64 s, 4 min, 17 min, 68 min, 4.5 h more each
TRY_AGAIN = RetryStrategy(max_attempts=7, exponential_wait=4)
ANSWERS_KEPT = timedelta(days=2)  # an idempotency key is good for so long


def declare_tasks(services: Services) -> None:
    """Teach this process's worker all tasks; once per process."""
    services.jobs.add_tasks_from(_projects(services), namespace="projects")
    services.jobs.add_tasks_from(_notices(services), namespace=NOTICES)
    services.jobs.add_tasks_from(_housekeeping(services), namespace="housekeeping")
    services.jobs.add_tasks_from(_storage(services), namespace="storage")


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


def _notices(services: Services) -> Blueprint:
    tasks = Blueprint()

    @tasks.task(name=DELIVERY_JOB, retry=TRY_AGAIN)
    async def deliver(notice: str, channel: str, happening: dict[str, Any]) -> None:
        await services.deliveries.deliver(notice, channel, happening)

    @tasks.task(name=CODE_JOB, retry=TRY_AGAIN)
    async def mail_code(notice: str, channel: str) -> None:
        await services.deliveries.mail_code(notice, channel)

    @tasks.periodic(cron="* * * * *")
    @tasks.task(name="take_up", queueing_lock="take_up_notices")
    async def take_up(timestamp: int) -> None:  # noqa: ARG001 - procrastinate passes it
        """What a server was doing when it died is done again."""
        jobs = services.jobs.job_manager
        for name in (DELIVERY_JOB, CODE_JOB):
            for job in await jobs.get_stalled_jobs(task_name=f"{NOTICES}:{name}"):
                await jobs.retry_job(job)

    return tasks


def _storage(services: Services) -> Blueprint:
    tasks = Blueprint()

    @tasks.task(name="repair", queueing_lock=REPAIR_TASK)
    async def repair() -> None:
        """As soon as something is known to be missing."""
        await services.care.repair()

    @tasks.periodic(cron="* * * * *")
    @tasks.task(name="look_after", queueing_lock="look_after_packs")
    async def look_after(timestamp: int) -> None:
        """Challenges, answers that are owed, copies that are missing; every fifth time better places."""
        await services.care.audit()
        await services.care.repair(rebalance=timestamp // 60 % 5 == 0)

    @tasks.periodic(cron="* * * * *")
    @tasks.task(name="look_after_uploads", queueing_lock="look_after_uploads")
    async def look_after_uploads(timestamp: int) -> None:  # noqa: ARG001 - procrastinate passes it
        """Those that a server left that died, and those that nobody went on with for a day."""
        await services.uploads.look_after()

    @tasks.periodic(cron="* * * * *")
    @tasks.task(name="take_in_names", queueing_lock="take_in_names")
    async def take_in_names(timestamp: int) -> None:  # noqa: ARG001 - procrastinate passes it
        await services.search.look_after()

    @tasks.periodic(cron="23 4 * * *")
    @tasks.task(name="collect_garbage", queueing_lock="collect_garbage")
    async def collect_garbage(timestamp: int) -> None:  # noqa: ARG001 - procrastinate passes it
        await services.collector.collect_all()

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
            await services.shares.purge(tx)
            await services.notices.inbox.purge(tx, now=services.clock.now())
            await idempotency.purge(tx, ANSWERS_KEPT)
            await job_board.purge(tx)

    @tasks.periodic(cron="37 * * * *")
    @tasks.task(name="sweep_packs", queueing_lock="sweep_packs")
    async def sweep_packs(timestamp: int) -> None:  # noqa: ARG001 - procrastinate passes it
        await services.drive.sweep_orphans()
        await services.peers.clear_unreferenced()

    return tasks
