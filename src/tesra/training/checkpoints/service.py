"""Checkpoints of runs: kept as sites report them, listed, and gone on from."""

from datetime import datetime
from typing import Any

from tesra.db.engine import Tx
from tesra.kit.errors import Conflict, NotFound
from tesra.kit.ids import AttemptId, CheckpointId, RunId, UserId, new_id
from tesra.kit.saying import Said
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
        if fact.resumed:
            await self._runs.update_attempt(tx, AttemptId(row.id), {"resumed": True})

    async def of_run(
        self, tx: Tx, run: RunId, *, before: int | None = None, limit: int | None = None
    ) -> list[wire.Checkpoint]:
        """The newest first, behind the number ``before``; the caller has checked whose run it is."""
        rows = await self._repository.of_run(tx, run, before=before, limit=limit)
        return [_shown(row) for row in rows]

    async def newest(self, tx: Tx, run: RunId) -> int | None:
        """The number of the last one that was stored."""
        return await self._repository.newest(tx, run)

    async def find(self, tx: Tx, run: RunId, number: int | None = None) -> CheckpointRef:
        """A checkpoint by its number, or the one that the run itself would go on from."""
        if number is not None:
            found = await self._repository.numbered(tx, run, number)
            if found is None:
                raise CheckpointUnknown(
                    f"{run} has no checkpoint {number}.",
                    way_out=f"`tesra checkpoints {run}` lists those it has.",
                )
            return _ref(found)
        row = await self._runs.run(tx, run)
        last = None
        if row is not None and row.attempt_id is not None:
            last = await self._repository.last_of(tx, AttemptId(row.attempt_id))
        if last is None and row is not None and row.resume_checkpoint is not None:
            base = await self._repository.one(tx, row.resume_checkpoint)
            last = _ref(base) if base is not None else None
        if last is None:
            raise CheckpointUnknown(
                f"{run} has stored no checkpoint.",
                way_out="Let the script write to the folder that TESRA_CHECKPOINT_DIR names, or "
                "save its framework's checkpoints in the output; `tesra run` starts from scratch.",
            )
        return last

    async def before(self, tx: Tx, run: RunId, at: datetime) -> CheckpointRef | None:
        """The newest that was finished by then."""
        found = await self._repository.finished_by(tx, run, at)
        return _ref(found) if found is not None else None

    async def finished_at(self, tx: Tx, checkpoint: str) -> datetime | None:
        """When its newest file was finished."""
        row = await self._repository.one(tx, CheckpointId(checkpoint))
        return row.finished_at if row is not None else None

    async def pin(self, tx: Tx, checkpoint: str) -> None:
        """Something refers to it: it stays kept, however many newer ones there are."""
        await self._repository.pin(tx, CheckpointId(checkpoint))

    async def restart(self, tx: Tx, run: RunId, *, checkpoint: str | None, why: Said) -> None:
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


def _ref(row: RunRow) -> CheckpointRef:
    return CheckpointRef(CheckpointId(row.id), row.number)


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
