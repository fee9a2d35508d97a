"""The background jobs as an operator sees them: how many wait, which have failed, and why.

The queue keeps that a job has failed, not what was wrong; a worker's middleware keeps the words.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from procrastinate import JobContext
from procrastinate.worker import Worker
from sqlalchemy import BigInteger, Column, DateTime, Table, Text, delete, func, literal, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import SQLAlchemyError

from tesra.db.engine import Database, Tx, metadata
from tesra.kit.errors import Conflict, NotFound

RECENT = 10_000  # the latest jobs, among which those that went well are counted
WORDS = 1000
KEPT = timedelta(days=60)

failures = Table(
    "job_failures",
    metadata,
    Column("job_id", BigInteger, primary_key=True, autoincrement=False),  # of the queue's own table
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("words", Text, nullable=False),
)

log = logging.getLogger(__name__)

_COUNTS = text(
    """
    SELECT status::text, count(*) FROM procrastinate_jobs
    WHERE status IN ('todo', 'doing') GROUP BY status
    UNION ALL SELECT 'failed', count(*) FROM procrastinate_jobs WHERE status = 'failed'
    UNION ALL SELECT 'succeeded', count(*) FROM procrastinate_jobs
    WHERE status = 'succeeded'
      AND id > (SELECT coalesce(max(id), 0) FROM procrastinate_jobs) - :recent
    """
)
_FAILED = text(
    """
    SELECT j.id, j.task_name, j.attempts, f.words, f.at
    FROM procrastinate_jobs j LEFT JOIN job_failures f ON f.job_id = j.id
    WHERE j.status = 'failed' AND j.id < :before
    ORDER BY j.id DESC LIMIT :limit
    """
)
_THIS = text(
    "SELECT status::text, queueing_lock FROM procrastinate_jobs WHERE id = :job FOR UPDATE"
)
_WAITS = text(
    "SELECT 1 FROM procrastinate_jobs WHERE queueing_lock = :lock AND status = 'todo' LIMIT 1"
)
_RETRY = text("SELECT procrastinate_retry_job_v2(:job, now(), NULL, NULL, NULL)")
_FIRST = 2**63 - 1


class JobUnknown(NotFound):
    """There is no such job."""


class JobNotFailed(Conflict):
    """This job has not failed, or is being tried again already."""


class JobWaitsAlready(Conflict):
    """Another job for the same thing waits already: that one will do."""


@dataclass(frozen=True, slots=True)
class JobCounts:
    """``succeeded``: among the latest ``RECENT`` jobs; all others are counted whole."""

    waiting: int
    running: int
    failed: int
    succeeded: int


@dataclass(frozen=True, slots=True)
class FailedJob:
    """``words``: the last error, null for one that failed before its worker could say why."""

    id: int
    task: str
    attempts: int
    words: str | None
    at: datetime | None


def keeping_failures(
    database: Database,
) -> Callable[[Callable[[], Awaitable[Any]], JobContext, Worker], Awaitable[Any]]:
    """A worker's middleware that writes down what was wrong, and lets the failure go on."""

    async def keep(
        call_next: Callable[[], Awaitable[Any]], context: JobContext, _worker: Worker
    ) -> Any:
        try:
            return await call_next()
        except Exception as error:
            job = context.job.id
            if job is not None:
                await _write_down(database, job, f"{type(error).__name__}: {error}")
            raise

    return keep


async def counts(tx: Tx) -> JobCounts:
    found = {row[0]: row[1] for row in await tx.execute(_COUNTS, {"recent": RECENT})}
    return JobCounts(
        waiting=found.get("todo", 0),
        running=found.get("doing", 0),
        failed=found.get("failed", 0),
        succeeded=found.get("succeeded", 0),
    )


async def failed(tx: Tx, *, before: int | None, limit: int) -> list[FailedJob]:
    """Those that have given up, the newest first."""
    rows = await tx.execute(_FAILED, {"before": before or _FIRST, "limit": limit})
    return [FailedJob(row.id, row.task_name, row.attempts, row.words, row.at) for row in rows]


async def retry(tx: Tx, job: int) -> None:
    """It is done again at once; raises ``JobUnknown``, ``JobNotFailed`` or ``JobWaitsAlready``."""
    row = (await tx.execute(_THIS, {"job": job})).one_or_none()
    if row is None:
        raise JobUnknown
    if row.status != "failed":
        raise JobNotFailed
    if row.queueing_lock and await tx.scalar(_WAITS, {"lock": row.queueing_lock}):
        raise JobWaitsAlready
    await tx.execute(_RETRY, {"job": job})


async def purge(tx: Tx) -> None:
    """Forgets the words of failures long ago."""
    await tx.execute(delete(failures).where(failures.c.at < func.now() - literal(KEPT)))


async def _write_down(database: Database, job: int, words: str) -> None:
    statement = upsert(failures).values(job_id=job, words=words.replace("\x00", "")[:WORDS])
    changes = {"at": func.now(), "words": statement.excluded.words}
    try:
        async with database.begin() as tx:
            await tx.execute(
                statement.on_conflict_do_update(index_elements=["job_id"], set_=changes)
            )
    except SQLAlchemyError:  # the database may be what is wrong: the log has the failure
        log.warning("the failure of job %s could not be written down", job, exc_info=True)
