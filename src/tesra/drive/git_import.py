"""Imports of git repositories by the server: asked for now, done by a job of whichever server.

The job is queued in the transaction that notes the import. ``resume`` takes up what a server that
died left behind; an import is claimed by one at a time.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Row, func, insert, select, update

from tesra.db.engine import Database, Tx
from tesra.drive.aside import scratch
from tesra.drive.intake import Intake
from tesra.drive.model import ImportUnknown, check_project_name
from tesra.drive.repository import imports
from tesra.drive.service import DriveService
from tesra.kit.errors import TesraError
from tesra.kit.ids import UserId, new_id
from tesra.kit.saying import said
from tesra.storage.cloning import CloneLimits, check_git_url, clone, repository_name
from tesra.wire.drive import GitImport, ImportJob, Project

log = logging.getLogger(__name__)

Defer = Callable[[Tx, str], Awaitable[object]]  # queue the job that will ``run`` this import

_ABANDONED = timedelta(minutes=20)  # above the longest time that a clone and its upload may take
_FORGOTTEN = timedelta(minutes=1)
_IMPORT_TIMEOUT_S = 900.0
_AT_ONCE = 2


class GitImports:
    """Ask for imports, look at them, do them."""

    def __init__(
        self,
        database: Database,
        drive: DriveService,
        *,
        defer: Defer,
        folder: Path,
        limits: CloneLimits | None = None,
    ) -> None:
        """``folder`` is where clones lie for a while."""
        self._database = database
        self._drive = drive
        self._defer = defer
        self._folder = folder
        self._limits = limits or CloneLimits()

    async def request(self, tx: Tx, owner: UserId, wanted: GitImport) -> ImportJob:
        """Note an import and queue its job; both exist once the transaction is committed."""
        url = check_git_url(wanted.url)
        name = check_project_name(wanted.name or repository_name(url))
        job = new_id("imp")
        await tx.execute(insert(imports).values(id=job, owner=owner, url=url, name=name))
        await self._defer(tx, job)
        return ImportJob(id=job, state="waiting")

    async def job(self, tx: Tx, owner: UserId, job: str) -> ImportJob:
        """How an import of the owner's stands."""
        found = select(imports).where(imports.c.id == job, imports.c.owner == owner)
        row = (await tx.execute(found)).one_or_none()
        if row is None:
            raise ImportUnknown
        project: Project | None = None
        if row.project_id is not None:
            project = await self._drive.project(tx, owner, row.project_id)
        return ImportJob(id=row.id, state=row.state, project=project, error=row.error)

    async def run(self, job: str) -> None:
        """Do an import, if nobody else does; how it ends is in its row."""
        row = await self._claim(job)
        if row is None:
            return
        try:
            async with asyncio.timeout(_IMPORT_TIMEOUT_S):
                project = await self._import(row)
        except TesraError as error:
            await self._finish(job, state="failed", error=_words(error))
        except Exception:
            await self._finish(job, state="failed", error=said("It failed on our side: try again."))
            raise
        else:
            await self._finish(job, state="done", project_id=project.id)

    async def resume(self) -> int:
        """Do what waits or was abandoned; gives their number. For a periodic task."""
        async with self._database.begin() as tx:
            statement = (
                select(imports.c.id)
                .where(_left_over(_FORGOTTEN))
                .order_by(imports.c.updated_at)
                .limit(_AT_ONCE)
            )
            jobs = [row.id for row in await tx.execute(statement)]
        for job in jobs:
            await self.run(job)
        return len(jobs)

    async def _claim(self, job: str) -> Row[Any] | None:
        async with self._database.begin() as tx:
            statement = (
                update(imports)
                .where(imports.c.id == job, _left_over(timedelta()))
                .values(state="running", updated_at=func.now())
                .returning(imports)
            )
            row: Row[Any] | None = (await tx.execute(statement)).one_or_none()
            return row

    async def _import(self, row: Row[Any]) -> Project:
        async with scratch(self._folder) as place:
            folder = place / "clone"
            await asyncio.to_thread(clone, row.url, folder, self._limits)
            intake = Intake(self._database, self._drive)
            return await intake.folder(UserId(row.owner), folder, name=row.name)

    async def _finish(self, job: str, **values: str) -> None:
        async with self._database.begin() as tx:
            await tx.execute(
                update(imports).where(imports.c.id == job).values(updated_at=func.now(), **values)
            )


def _left_over(waited: timedelta) -> ColumnElement[bool]:
    """Waiting for so long, or claimed by one that has not been heard of for too long."""
    state, since = imports.c.state, imports.c.updated_at
    waiting = (state == "waiting") & (since <= func.now() - waited)
    return waiting | ((state == "running") & (since < func.now() - _ABANDONED))


def _words(error: TesraError) -> str:
    return f"{error.detail} {error.way_out}" if error.way_out else error.detail
