"""What a run has to pay for, now or at its end: its attempts and checkpoints, seen as a chain."""

from sqlalchemy import bindparam, or_, select

from tesra.billing.model import Part
from tesra.db.engine import Tx
from tesra.kit.ids import AttemptId, CheckpointId, RunId
from tesra.kit.money import MS_PER_HOUR
from tesra.training.checkpoints.chain import Made, Try, billed_parts
from tesra.training.checkpoints.tables import checkpoints
from tesra.training.model import Outcome, RunLife
from tesra.training.repository import RunRepository, life_of
from tesra.training.tables import attempts

_CHAIN = (
    select(
        attempts.c.id,
        attempts.c.number,
        attempts.c.resume_checkpoint,
        attempts.c.outcome,
        or_(
            attempts.c.resumed,
            attempts.c.outcome.is_(None),  # it still may
            attempts.c.usage_ms == 0,  # it did nothing anew
        ).label("went_on"),
        checkpoints.c.id.label("checkpoint"),
        checkpoints.c.ran_ms,
    )
    .outerjoin(checkpoints, checkpoints.c.attempt_id == attempts.c.id)
    .where(attempts.c.run_id == bindparam("run"))
)


class Accounts:
    """Reads the chain of a run's attempts."""

    def __init__(self) -> None:
        self._runs = RunRepository()

    async def parts(self, tx: Tx, life: RunLife, run: RunId) -> list[Part]:
        """What is paid for of the run as it is now; a live attempt counts whole.

        An attempt whose script did not read the checkpoint began anew: what is in it was done twice.
        """
        rows = (await tx.execute(_CHAIN, {"run": run})).all()
        tries = {row.number: row for row in rows}.values()
        made = [row for row in rows if row.checkpoint is not None]
        return billed_parts(
            [
                Try(
                    attempt=AttemptId(row.id),
                    number=row.number,
                    base=row.resume_checkpoint if row.went_on else None,
                    lost=row.outcome == Outcome.LOST.value,
                )
                for row in tries
            ],
            {CheckpointId(row.checkpoint): Made(AttemptId(row.id), row.ran_ms) for row in made},
            life.resume,
        )

    async def parts_now(self, tx: Tx, run: RunId) -> list[Part]:
        """The same by the run's id alone."""
        row = await self._runs.run(tx, run)
        return await self.parts(tx, life_of(row), run) if row is not None else []

    async def earlier(self, tx: Tx, life: RunLife, run: RunId) -> dict[str, int]:
        """Columns of a run that is queued again: what it will pay for of the attempts so far, at most."""
        until = {part.attempt_id: part.until_ms for part in await self.parts(tx, life, run)}
        used = await tx.execute(
            select(attempts.c.id, attempts.c.usage_ms, attempts.c.cost_micros).where(
                attempts.c.id.in_(until)
            )
        )
        ms = micros = 0
        for row in used:
            counted_ms = _counted(row.usage_ms, until[row.id])
            ms += counted_ms
            micros += -(-row.cost_micros * counted_ms // max(1, row.usage_ms))
        return {"earlier_ms": ms, "earlier_micros": micros}

    async def micro_th_so_far(self, tx: Tx, life: RunLife, run: RunId) -> int:
        """Micro-T·H of what would be paid for now; the bill counts usage records one by one."""
        until = {part.attempt_id: part.until_ms for part in await self.parts(tx, life, run)}
        used = await tx.execute(
            select(attempts.c.id, attempts.c.rating_micro_t, attempts.c.usage_ms).where(
                attempts.c.id.in_(until)
            )
        )
        return sum(
            row.rating_micro_t * _counted(row.usage_ms, until[row.id]) // MS_PER_HOUR
            for row in used
        )


def _counted(usage_ms: int, until_ms: int | None) -> int:
    return usage_ms if until_ms is None else min(until_ms, usage_ms)
