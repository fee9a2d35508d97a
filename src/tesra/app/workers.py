"""What a server does besides answering: listen, dispatch, and work off its jobs.

A worker that fails is logged and started again; the process goes on answering meanwhile.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tesra.app.jobs import declare_tasks
from tesra.db.job_board import keeping_failures
from tesra.training.dispatcher import Dispatcher
from tesra.training.sweeps.runner import SweepRunner
from tesra.web.context import Services

log = logging.getLogger(__name__)

RESTART_S = 1.0


class Workers:
    """The background tasks of one server process."""

    def __init__(self, services: Services, dispatcher: Dispatcher, sweeps: SweepRunner) -> None:
        self._services = services
        self._dispatcher = dispatcher
        self._sweeps = sweeps

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """All workers run inside the block and are gone after it."""
        jobs = self._services.jobs
        declare_tasks(self._services)
        async with jobs.open_async():
            tasks = [
                asyncio.create_task(_keep(self._services.listener.run, "listener")),
                asyncio.create_task(_keep(self._dispatcher.run, "dispatcher")),
                asyncio.create_task(_keep(self._sweeps.run, "runner of sweeps")),
                asyncio.create_task(
                    _keep(
                        lambda: jobs.run_worker_async(
                            concurrency=4,
                            install_signal_handlers=False,
                            wait=True,
                            worker_middleware=[keeping_failures(self._services.database)],
                        ),
                        "jobs",
                    )
                ),
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


async def _keep(work: Callable[[], Awaitable[object]], name: str) -> None:
    """Run ``work`` for ever: this is the outer loop that logs and goes on."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("the %s failed and is started again", name)
        await asyncio.sleep(RESTART_S)
