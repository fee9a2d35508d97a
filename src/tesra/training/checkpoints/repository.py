"""Rows of stored checkpoints; used by training's own services alone."""

from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from tesra.db.engine import Tx
from tesra.kit.ids import AttemptId, CheckpointId, RunId
from tesra.training.checkpoints.tables import checkpoints
from tesra.training.model import CheckpointRef
from tesra.training.repository import RunRow
from tesra.training.tables import attempts

_LISTED = select(checkpoints, attempts.c.number.label("attempt")).join(
    attempts, attempts.c.id == checkpoints.c.attempt_id
)


class CheckpointRepository:
    """Checkpoints by run and attempt."""

    async def add(self, tx: Tx, run: RunId, values: dict[str, Any]) -> bool:
        """Number it within its run, whose row is locked; False when it is known already."""
        following = (
            select(func.coalesce(func.max(checkpoints.c.number), 0) + 1)
            .where(checkpoints.c.run_id == run)
            .scalar_subquery()
        )
        statement = (
            upsert(checkpoints)
            .values(run_id=run, number=following, **values)
            .on_conflict_do_nothing(index_elements=["attempt_id", "attempt_seq"])
            .returning(checkpoints.c.id)
        )
        return (await tx.execute(statement)).first() is not None

    async def supersede(self, tx: Tx, run: RunId, *, keep: int) -> None:
        """Mark all but the newest ``keep`` and those that something refers to."""
        newest = (
            select(checkpoints.c.id)
            .where(checkpoints.c.run_id == run)
            .order_by(checkpoints.c.number.desc())
            .limit(keep)
        )
        await tx.execute(
            update(checkpoints)
            .where(
                checkpoints.c.run_id == run,
                checkpoints.c.superseded_at.is_(None),
                checkpoints.c.pinned.is_(False),
                checkpoints.c.id.not_in(newest),
            )
            .values(superseded_at=func.clock_timestamp())
        )

    async def pin(self, tx: Tx, checkpoint: CheckpointId) -> None:
        await tx.execute(
            update(checkpoints)
            .where(checkpoints.c.id == checkpoint)
            .values(pinned=True, superseded_at=None)
        )

    async def of_run(
        self, tx: Tx, run: RunId, *, before: int | None = None, limit: int | None = None
    ) -> list[RunRow]:
        """The newest first, behind the number ``before``."""
        statement = _LISTED.where(checkpoints.c.run_id == run)
        if before is not None:
            statement = statement.where(checkpoints.c.number < before)
        statement = statement.order_by(checkpoints.c.number.desc()).limit(limit)
        return list(await tx.execute(statement))

    async def newest(self, tx: Tx, run: RunId) -> int | None:
        """Its number."""
        newest = select(func.max(checkpoints.c.number)).where(checkpoints.c.run_id == run)
        number: int | None = (await tx.execute(newest)).scalar_one()
        return number

    async def numbered(self, tx: Tx, run: RunId, number: int) -> RunRow | None:
        statement = _LISTED.where(checkpoints.c.run_id == run, checkpoints.c.number == number)
        return (await tx.execute(statement)).one_or_none()

    async def finished_by(self, tx: Tx, run: RunId, at: datetime) -> RunRow | None:
        """The newest of those that were finished by then."""
        statement = _LISTED.where(checkpoints.c.run_id == run, checkpoints.c.finished_at <= at)
        statement = statement.order_by(checkpoints.c.number.desc()).limit(1)
        return (await tx.execute(statement)).one_or_none()

    async def one(self, tx: Tx, checkpoint: CheckpointId) -> RunRow | None:
        statement = _LISTED.where(checkpoints.c.id == checkpoint)
        return (await tx.execute(statement)).one_or_none()

    async def last_of(self, tx: Tx, attempt: AttemptId) -> CheckpointRef | None:
        """The last that this attempt stored."""
        statement = (
            select(checkpoints.c.id, checkpoints.c.number)
            .where(checkpoints.c.attempt_id == attempt)
            .order_by(checkpoints.c.number.desc())
            .limit(1)
        )
        row = (await tx.execute(statement)).one_or_none()
        return CheckpointRef(CheckpointId(row.id), row.number) if row else None
