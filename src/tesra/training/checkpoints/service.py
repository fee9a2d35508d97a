"""Checkpoints of runs: kept as sites report them, listed, and gone on from."""

from datetime import datetime
from typing import Any

from tesra.db.engine import Tx
from tesra.kit.errors import Conflict, NotFound
from tesra.kit.ids import AttemptId, CheckpointId, RunId, UserId, new_id
from tesra.training.checkpoints.repository import CheckpointRepository
from tesra.training.domains import Domains
from tesra.training.model import CheckpointRef, RestartRequested
from tesra.training.repository import RunRepository, RunRow
from tesra.wire import checkpoints as wire
from tesra.wire.drive import SnapshotCommit
from tesra.wire.site import Checkpoint

KEPT = 3  # of each run, beside those that something refers to


class CheckpointUnknown(NotFound):
    """This run has no such checkpoint."""


class NoRestart(Conflict):
    """This run has ended: it can't begin again."""


class CheckpointService:
    """What is known of checkpoints; their data are snapshots in their owner's drive."""

    def __init__(self, domains: Domains) -> None:
        self._drive = domains.drive
        self._transitions = domains.transitions
        self._repository = CheckpointRepository()
        self._runs = RunRepository()

    async def take(
        self, tx: Tx, row: RunRow, fact: Checkpoint, commit: SnapshotCommit | None
    ) -> None:
        """Keep what an attempt's site has stored; ``commit`` is None when it was not complete."""
        if commit is None:
            return
        snapshot = await self._drive.commit_snapshot(
            tx, UserId(row.owner), commit, kind="checkpoint"
        )
        run = RunId(row.run_id)
        await self._runs.lock_run(tx, run)
        added = await self._repository.add(
            tx,
            run,
            {
                "id": new_id("ckp"),
                "attempt_id": AttemptId(row.id),
                "attempt_seq": fact.number,
                "snapshot_id": snapshot.id,
                "ran_ms": fact.ran_ms,
                "finished_at": fact.finished_at,
                "files": fact.files,
                "size_bytes": fact.size_bytes,
                "newest": fact.newest,
                "step": fact.step,
            },
        )
        if added:
            await self._repository.supersede(tx, run, keep=KEPT)

    async def of_run(self, tx: Tx, run: RunId) -> list[wire.Checkpoint]:
        """The newest first; the caller has checked whose run it is."""
        return [_shown(row) for row in await self._repository.of_run(tx, run)]

    async def find(self, tx: Tx, run: RunId, number: int | None = None) -> CheckpointRef:
        """A checkpoint by its number, or the one that the run itself would go on from."""
        rows = await self._repository.of_run(tx, run)
        if not rows:
            raise CheckpointUnknown(
                f"{run} has stored no checkpoint.",
                way_out="Write to the folder that TESRA_CHECKPOINT_DIR names, or save the "
                "framework's own checkpoints in the output; `tesra run` starts from scratch.",
            )
        if number is None:
            life = await self._runs.run(tx, run)
            last = next((row for row in rows if life and row.attempt_id == life.attempt_id), None)
            base = life.resume_checkpoint if life else None
            chosen = last or next((row for row in rows if row.id == base), rows[0])
        else:
            found = next((row for row in rows if row.number == number), None)
            if found is None:
                raise CheckpointUnknown(
                    f"{run} has no checkpoint {number}.",
                    way_out=f"`tesra checkpoints {run}` lists those it has.",
                )
            chosen = found
        return CheckpointRef(CheckpointId(chosen.id), chosen.number)

    async def before(self, tx: Tx, run: RunId, at: datetime) -> CheckpointRef | None:
        """The newest that was finished by then."""
        rows = await self._repository.of_run(tx, run)
        found = next((row for row in rows if row.finished_at <= at), None)
        return CheckpointRef(CheckpointId(found.id), found.number) if found else None

    async def pin(self, tx: Tx, checkpoint: str) -> None:
        """Something refers to it: it stays kept, however many newer ones there are."""
        await self._repository.pin(tx, CheckpointId(checkpoint))

    async def restart(self, tx: Tx, run: RunId, *, checkpoint: str | None, why: str) -> None:
        """Let a live or queued run begin again from a checkpoint (None: from scratch).

        Its present attempt is asked to end, without failure, and is paid for as it ran; this does
        not count as a restart. Wakes the site, so call it last in a transaction.
        """
        row = await self._runs.run(tx, run)
        if row is None or row.bill_id is not None:
            raise NoRestart(way_out=f"`tesra resume {run}` starts a new run from a checkpoint.")
        if checkpoint is not None:
            await self._repository.pin(tx, CheckpointId(checkpoint))
        wanted = CheckpointId(checkpoint) if checkpoint is not None else None
        topics = await self._transitions.apply(tx, run, RestartRequested(wanted, why))
        await self._transitions.tell(tx, topics)


def _shown(row: Any) -> wire.Checkpoint:
    return wire.Checkpoint(
        id=row.id,
        number=row.number,
        attempt=row.attempt,
        state="kept" if row.superseded_at is None else "superseded",
        step=row.step,
        finished_at=row.finished_at,
        stored_at=row.stored_at,
        ran_ms=row.ran_ms,
        files=row.files,
        size_bytes=row.size_bytes,
        snapshot=row.snapshot_id,
        newest=row.newest,
    )
