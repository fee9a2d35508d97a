"""Facts that sites report, applied: each changes usage or a run's life, in the caller's transaction."""

import logging

from tesra.db.engine import Tx
from tesra.kit.errors import TesraError
from tesra.kit.ids import AttemptId, RunId, SnapshotId, UserId
from tesra.kit.saying import said
from tesra.training.checkpoints.service import CheckpointService
from tesra.training.domains import Domains
from tesra.training.holdings import Holdings
from tesra.training.metering import Meter, Metering
from tesra.training.model import (
    AttemptEnded,
    Outcome,
    PhaseSeen,
    PreparingSeen,
    RanksStarted,
    RunEvent,
    StallSeen,
)
from tesra.training.repository import RunRepository, RunRow
from tesra.training.transitions import Result
from tesra.training.tuning.facts import TuningFacts
from tesra.wire.drive import SnapshotCommit
from tesra.wire.site import Checkpoint, Ended, Message, Phase, Preparing, Started, Usage
from tesra.wire.stalls import Stalled, lasting_words, sentence, told_words
from tesra.wire.tuning import Tuned

log = logging.getLogger(__name__)

CheckedOutput = tuple[SnapshotCommit | None, list[str]]  # what is stored, and the warnings
Fact = tuple[Message, CheckedOutput]


def output_purpose(run: RunId) -> str:
    """What the drive calls the epoch that a run's output is written under."""
    return f"run:{run}"


class Facts:
    """What is to be done about each kind of fact."""

    def __init__(self, domains: Domains) -> None:
        self._database = domains.database
        self._drive = domains.drive
        self._metering = Metering(domains)
        self._transitions = domains.transitions
        self._checkpoints = CheckpointService(domains)
        self._repository = RunRepository()
        self._tuning = TuningFacts(domains)
        self._holdings = Holdings()

    async def checked_output(self, message: Message) -> CheckedOutput:
        """What a fact says is in the drive, verified to be complete; a warning when it is not."""
        match message.body:
            case Ended(output=commit, warnings=warnings):
                warnings = list(warnings)
            case Checkpoint(snapshot=commit):
                warnings = []
            case _:
                return None, []
        if commit is None:
            return None, warnings
        async with self._database.begin() as tx:
            row = await self._repository.attempt(tx, AttemptId(message.attempt))
        if row is None:
            return None, warnings
        try:
            await self._drive.check_complete(
                UserId(row.owner), commit, purpose=output_purpose(RunId(row.run_id))
            )
        except TesraError as error:
            log.warning("what %s stored is not complete: %s", message.attempt, error.detail)
            return None, [*warnings, said(f"The output could not be stored: {error.detail}")]
        return commit, warnings

    async def apply(
        self,
        tx: Tx,
        row: RunRow,
        message: Message,
        output: CheckedOutput,
        meter: Meter,
        locked: RunRow | None = None,
    ) -> list[str]:
        """Bring one fact about; answers whom to wake. ``settle`` closes the transaction's meter.

        ``locked``: the run's row, when the transaction has locked it and changed nothing of it.
        """
        run, attempt = RunId(row.run_id), AttemptId(row.id)
        event: RunEvent
        result, noted = None, {}
        topics: list[str] = []
        match message.body:
            case Usage() as usage:  # a smoke run is free: nothing is metered
                return [] if row.smoke else await self._metering.record(tx, row, usage, meter)
            case Tuned() as tuned:
                return await self._tuning.take(tx, run, attempt, tuned)
            case Checkpoint() as checkpoint:
                await self._checkpoints.take(tx, row, checkpoint, output[0])
                return [f"run:{run}"]
            case Preparing(phase=phase):
                event = PreparingSeen(attempt, phase)
            case Stalled() as stalled:
                topics = await self._note_stall(tx, run, stalled)
                event = StallSeen(attempt, lasting_words(stalled))
            case Phase(phase=phase):
                event = PhaseSeen(attempt, phase)
            case Started(environment_lock=lock):
                noted = {"environment_lock": lock} if lock is not None else {}
                if row.tuned:
                    topics, locked = await self._tuning.started(tx, row), None
                await self._holdings.note(tx, row)
                event = RanksStarted(attempt)
            case Ended() as ended:
                result = await self._store_result(tx, row, ended, output)
                event = AttemptEnded(
                    attempt, Outcome(ended.outcome), exit_code=ended.exit_code, reason=ended.reason
                )
        topics += await self._transitions.apply(
            tx, run, event, result=result, noted=noted, locked=locked
        )
        return topics

    async def settle(self, tx: Tx, meter: Meter) -> list[str]:
        """What is done once for all the usage of a transaction; answers whom to wake."""
        return await self._metering.settle(tx, meter)

    async def _note_stall(self, tx: Tx, run: RunId, stalled: Stalled) -> list[str]:
        await self._repository.lock_run(tx, run)  # who writes its timeline
        text = sentence(told_words(stalled))
        await self._repository.add_event(tx, run, "stalled", text)
        return [f"run:{run}"]

    async def _store_result(
        self, tx: Tx, row: RunRow, ended: Ended, output: CheckedOutput
    ) -> Result:
        commit, warnings = output
        if ended.resumed:
            await self._repository.update_attempt(tx, AttemptId(row.id), {"resumed": True})
        if ended.outcome == "lost":
            return Result(warnings=warnings)
        if commit is None:
            purpose = output_purpose(RunId(row.run_id))
            await self._drive.forget_upload(tx, UserId(row.owner), purpose=purpose)
            return Result(warnings=warnings)
        snapshot = await self._drive.commit_snapshot(tx, UserId(row.owner), commit, kind="output")
        return Result(
            output=SnapshotId(snapshot.id), output_size_bytes=snapshot.size_bytes, warnings=warnings
        )
