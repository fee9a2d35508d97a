"""Changing a run's parameters while it goes on: asked for here, made by the site, told here again."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func

from tesra.db.engine import Tx
from tesra.kit.ids import RunId, UserId
from tesra.kit.saying import Said, said
from tesra.training.checkpoints.service import CheckpointService
from tesra.training.domains import Domains
from tesra.training.model import RunState
from tesra.training.repository import RunRepository, RunRow
from tesra.training.service import RunNotFound
from tesra.training.tuning.facts import EVENT, change_of, topics_of
from tesra.training.tuning.model import (
    ChangeState,
    NoCheckpointBefore,
    NothingToChange,
    Parameter,
    RunOver,
    checked,
    declared,
    values_now,
)
from tesra.training.tuning.repository import ChangeRow, TuningRepository
from tesra.training.tuning.views import show, values_words
from tesra.wire.tuning import Tuning


class TuningService:
    """A change waits until its site reports that it was made; it may be withdrawn until then."""

    def __init__(self, domains: Domains) -> None:
        self._runs = RunRepository()
        self._repository = TuningRepository()
        self._transitions = domains.transitions
        self._checkpoints = CheckpointService(domains)

    # The user's side

    async def tune(self, tx: Tx, owner: UserId, run: RunId, values: Mapping[str, Any]) -> Tuning:
        """Ask for new values of the owner's run. While it is queued, it starts with them."""
        row = await self._row(tx, owner, run)
        life = await self._lock(tx, run)
        changes = await self._repository.changes(tx, run)
        parameters = await self._parameters(tx, row)
        wanted = checked(parameters, values)
        queued = life.state == RunState.QUEUED
        holds = values_now(parameters.values(), map(change_of, changes))
        seq = changes[-1].seq + 1 if changes else 1
        await self._repository.insert(
            tx,
            {
                "run_id": run,
                "seq": seq,
                "by": owner,
                "values": wanted,
                "before": {name: holds[name] for name in wanted},
                "state": ChangeState.WAITING.value,
                "attempt": life.attempts + 1 if queued else life.attempts,
                "at_start": queued,
            },
        )
        await self._keep_checkpoint(tx, run)
        await self._tell(tx, life, said(f"Change {seq:d} asked for: {values_words(wanted)}."))
        return await self._show(tx, row)

    async def withdraw(self, tx: Tx, owner: UserId, run: RunId, seq: int | None) -> Tuning:
        """Take back a change that waits, by default the last one."""
        row = await self._row(tx, owner, run)
        life = await self._lock(tx, run)
        changes = await self._repository.changes(tx, run)
        chosen = _chosen(changes, seq, ChangeState.WAITING)
        values = {"state": ChangeState.WITHDRAWN.value, "settled_at": func.clock_timestamp()}
        await self._repository.update(tx, run, [chosen.seq], values)
        await self._tell(
            tx, life, said(f"Change {chosen.seq:d} withdrawn: {values_words(chosen.values)}.")
        )
        return await self._show(tx, row)

    async def rollback(self, tx: Tx, owner: UserId, run: RunId, seq: int | None) -> Tuning:
        """Begin again from the checkpoint before a change, by default the last one that was made.

        It and all later changes are not in force any more.
        """
        row = await self._row(tx, owner, run)
        life = await self._lock(tx, run)
        changes = await self._repository.changes(tx, run)
        chosen = _chosen(changes, seq, ChangeState.APPLIED)
        checkpoint = await self._checkpoints.before(tx, run, chosen.at)
        if checkpoint is None:
            raise NoCheckpointBefore(
                f"No checkpoint of the run was stored before change {chosen.seq}.",
                way_out=f"Set the old value: `tesra tune {run} {values_words(chosen.before, ' ')}`.",
            )
        for change in changes:
            if change.seq >= chosen.seq:
                await self._undo(tx, run, change, checkpoint.number)
        told = said(
            f"Rolled back to checkpoint {checkpoint.number:d}, before change {chosen.seq:d}."
        )
        await self._runs.add_event(tx, run, EVENT, told)
        why = said(
            f"rolled back to checkpoint {checkpoint.number:d}, before change {chosen.seq:d}."
        )
        await self._checkpoints.restart(tx, RunId(life.id), checkpoint=checkpoint.id, why=why)
        return await self._show(tx, row)

    async def _undo(self, tx: Tx, run: RunId, change: ChangeRow, checkpoint: int) -> None:
        after = {
            ChangeState.APPLIED: ChangeState.ROLLED_BACK,
            ChangeState.WAITING: ChangeState.WITHDRAWN,
        }.get(ChangeState(change.state))
        if after is not None:
            reason = said(f"Rolled back to checkpoint {checkpoint:d}.")
            values = {"state": after.value, "reason": reason}
            await self._repository.update(tx, run, [change.seq], values)

    async def show(self, tx: Tx, owner: UserId, run: RunId) -> Tuning:
        """What can be changed of the owner's run, and the timeline of what has been."""
        return await self._show(tx, await self._row(tx, owner, run))

    async def _show(self, tx: Tx, row: RunRow) -> Tuning:
        run = RunId(row.id)
        changes = await self._repository.changes(tx, run)
        found = await self._repository.found(tx, run)
        now = await self._runs.run(tx, run)
        assert now is not None, "a run is never deleted"
        stepping = found.stepping if found and found.attempt_id == now.attempt_id else []
        parameters = await self._parameters(tx, row)
        holds = values_now(parameters.values(), map(change_of, changes))
        return show(now, parameters.values(), holds, changes, stepping)

    async def _row(self, tx: Tx, owner: UserId, run: RunId) -> RunRow:
        row = await self._runs.run(tx, run, owner=owner)
        if row is None:
            raise RunNotFound(way_out="List yours with `tesra runs`.")
        return row

    async def _lock(self, tx: Tx, run: RunId) -> RunRow:
        """The run's deciding part, locked; raises ``RunOver`` when it has ended."""
        life = await self._runs.lock_run(tx, run)
        assert life is not None, "a run is never deleted"
        if RunState(life.state).terminal:
            raise RunOver(
                _ENDED[RunState(life.state)],
                way_out="Start another one with the values that you want.",
            )
        if life.stop is not None:
            raise RunOver("The run is being stopped: nothing of it can be changed any more.")
        return life

    async def _parameters(self, tx: Tx, row: RunRow) -> dict[str, Parameter]:
        found = await self._repository.found(tx, RunId(row.id))
        spec = row.spec
        return declared(
            spec["params"],
            spec.get("ranges", {}),
            found.parameters if found is not None else [],
            found.readers if found is not None else [],
        )

    async def _keep_checkpoint(self, tx: Tx, run: RunId) -> None:
        """The one to roll back to stays kept, however many newer ones there will be."""
        change = (await self._repository.changes(tx, run))[-1]
        checkpoint = await self._checkpoints.before(tx, run, change.at)
        if checkpoint is not None:
            await self._checkpoints.pin(tx, checkpoint.id)

    async def _tell(self, tx: Tx, life: RunRow, text: Said) -> None:
        """Into the run's timeline, and to its site and whoever watches it."""
        await self._runs.add_event(tx, RunId(life.id), EVENT, text)
        await self._transitions.tell(tx, await topics_of(tx, self._runs, life))


def _chosen(changes: Sequence[ChangeRow], seq: int | None, state: ChangeState) -> ChangeRow:
    fitting = [row for row in changes if row.state == state and seq in (None, row.seq)]
    if not fitting:
        raise NothingToChange(
            _none_so(seq, state), way_out="`tesra tune RUN` shows the timeline of its changes."
        )
    return fitting[-1]


def _none_so(seq: int | None, state: ChangeState) -> Said:
    if state is ChangeState.WAITING:
        return said(
            "No change of this run waits."
            if seq is None
            else f"Change {seq} of this run is none that waits."
        )
    return said(
        "No change of this run has been made."
        if seq is None
        else f"Change {seq} of this run is none that has been made."
    )


_ENDED = {
    RunState.SUCCEEDED: said("The run has succeeded: nothing of it can be changed any more."),
    RunState.FAILED: said("The run has failed: nothing of it can be changed any more."),
    RunState.STOPPED: said("The run has been stopped: nothing of it can be changed any more."),
}
