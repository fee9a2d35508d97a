"""Changing a run's parameters while it goes on: asked for here, made by the site, told here again."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import func

from tesra.db.engine import Tx
from tesra.kit.ids import AttemptId, RunId, UserId
from tesra.training.model import RunState
from tesra.training.repository import RunRepository, RunRow
from tesra.training.service import RunNotFound
from tesra.training.transitions import Transitions
from tesra.training.tuning.model import (
    Change,
    ChangeState,
    NothingToChange,
    Parameter,
    RunOver,
    checked,
    declared,
    values_now,
)
from tesra.training.tuning.repository import ChangeRow, TuningRepository
from tesra.training.tuning.views import applied_words, show, values_words
from tesra.wire.tuning import Tuned, TunedChange, Tuning

_EVENT = "tuning"


class TuningService:
    """A change waits until its site reports that it was made; it may be withdrawn until then."""

    def __init__(self, transitions: Transitions) -> None:
        self._runs = RunRepository()
        self._repository = TuningRepository()
        self._transitions = transitions

    # The user's side

    async def tune(self, tx: Tx, owner: UserId, run: RunId, values: Mapping[str, Any]) -> Tuning:
        """Ask for new values of the owner's run. While it is queued, it starts with them."""
        row = await self._row(tx, owner, run)
        life = await self._lock(tx, run)
        changes = await self._repository.changes(tx, run)
        parameters = await self._parameters(tx, row)
        wanted = checked(parameters, values)
        queued = life.state == RunState.QUEUED
        holds = values_now(parameters.values(), map(_change, changes))
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
        await self._say(tx, life, f"Change {seq} asked for: {values_words(wanted)}.")
        return await self._show(tx, row)

    async def withdraw(self, tx: Tx, owner: UserId, run: RunId, seq: int | None) -> Tuning:
        """Take back a change that waits, by default the last one."""
        row = await self._row(tx, owner, run)
        life = await self._lock(tx, run)
        changes = await self._repository.changes(tx, run)
        chosen = _chosen(changes, seq, ChangeState.WAITING, "waits")
        values = {"state": ChangeState.WITHDRAWN.value, "settled_at": func.clock_timestamp()}
        await self._repository.update(tx, run, [chosen.seq], values)
        await self._say(tx, life, f"Change {chosen.seq} withdrawn: {values_words(chosen.values)}.")
        return await self._show(tx, row)

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
        holds = values_now(parameters.values(), map(_change, changes))
        return show(now, parameters.values(), holds, changes, stepping)

    # The site's side

    async def changes_of(self, tx: Tx, runs: Iterable[RunId]) -> dict[RunId, list[Change]]:
        """The changes of many runs, as assignments need them."""
        found = await self._repository.changes_of(tx, runs)
        return {run: [_change(row) for row in rows] for run, rows in found.items()}

    async def started(self, tx: Tx, run: RunId, attempt: int) -> None:
        """The ranks of an attempt run: what it was to start with is in force."""
        begun = [
            row
            for row in await self._repository.changes(tx, run)
            if row.state == ChangeState.WAITING and (row.attempt < attempt or row.at_start)
        ]
        if not begun:
            return
        await self._runs.lock_run(tx, run)
        for row in begun:
            words = f"since the start of attempt {attempt}"
            values = {
                "state": ChangeState.APPLIED.value,
                "attempt": attempt,
                "at_start": True,
                "step": 0,
                "reason": f"In force {words}.",
                "settled_at": func.clock_timestamp(),
            }
            await self._repository.update(tx, run, [row.seq], values)
            await self._runs.add_event(tx, run, _EVENT, f"Change {row.seq} in force {words}.")

    async def take(self, tx: Tx, run: RunId, attempt: AttemptId, fact: Tuned) -> None:
        """A site's word on an attempt's tuning; the same word twice changes nothing."""
        found = fact.model_dump(mode="json", include={"found", "readers", "stepping"})
        found["parameters"] = found.pop("found")
        await self._repository.store_found(tx, run, attempt, found)
        if not fact.changes:
            return
        life = await self._runs.lock_run(tx, run)
        assert life is not None, "a run is never deleted"
        known = {row.seq: row for row in await self._repository.changes(tx, run)}
        for change in fact.changes:
            row = known.get(change.seq)
            if row is not None:
                await self._settle(tx, life, row, change)

    async def _settle(self, tx: Tx, life: RunRow, row: ChangeRow, change: TunedChange) -> None:
        """Only a change that waits, or was withdrawn too late, gets another state."""
        run = RunId(life.id)
        if row.state not in (ChangeState.WAITING, ChangeState.WITHDRAWN):
            return
        ranks = [took.model_dump(mode="json") for took in change.ranks]
        values: dict[str, Any] = {"step": change.step, "ranks": ranks, "reason": change.reason}
        if change.state == "decided":
            await self._repository.update(tx, run, [row.seq], values)
            return
        if change.state == "applied":
            late = row.state == ChangeState.WITHDRAWN
            words = applied_words(change, withdrawn=late)
            values |= {"state": ChangeState.APPLIED.value, "reason": words}
            text = f"Change {row.seq}, {values_words(row.values)}: {words}"
        else:
            values["state"] = ChangeState.FAILED.value
            text = f"Change {row.seq} was not made: {change.reason}"
        values["settled_at"] = func.clock_timestamp()
        await self._repository.update(tx, run, [row.seq], values)
        await self._say(tx, life, text)

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
                f"The run has {_ended_as(life.state)}: nothing of it can be changed any more.",
                way_out="Start another one with the values that you want.",
            )
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

    async def _say(self, tx: Tx, life: RunRow, text: str) -> None:
        """Into the run's timeline, and to its site and whoever watches it."""
        await self._runs.add_event(tx, RunId(life.id), _EVENT, text)
        topics = [f"run:{life.id}"]
        if life.attempt_id and RunState(life.state).live:
            site = await self._runs.site_of(tx, AttemptId(life.attempt_id))
            topics.append(f"site:{site}")
        await self._transitions.tell(tx, topics)


def _change(row: ChangeRow) -> Change:
    return Change(row.seq, row.values, ChangeState(row.state), row.attempt, row.at_start)


def _chosen(
    changes: Sequence[ChangeRow], seq: int | None, state: ChangeState, words: str
) -> ChangeRow:
    fitting = [row for row in changes if row.state == state and seq in (None, row.seq)]
    if not fitting:
        which = "No change of this run" if seq is None else f"Change {seq} of this run is none that"
        raise NothingToChange(
            f"{which} {words}.", way_out="`tesra tune RUN` shows the timeline of its changes."
        )
    return fitting[-1]


def _ended_as(state: str) -> str:
    return {"stopped": "been stopped"}.get(state, state)
