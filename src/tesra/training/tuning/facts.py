"""What sites and attempts bring to the changes of runs' parameters: begun, named, made, or failed."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func

from tesra.db.engine import Tx
from tesra.kit.ids import AttemptId, RunId
from tesra.kit.saying import said
from tesra.training.checkpoints.service import CheckpointService
from tesra.training.domains import Domains
from tesra.training.model import RunState
from tesra.training.repository import RunRepository, RunRow
from tesra.training.tuning.model import Change, ChangeState, Start, at_start_of, made_again
from tesra.training.tuning.repository import ChangeRow, TuningRepository
from tesra.training.tuning.views import applied_words, values_words
from tesra.wire.tuning import Tuned, TunedChange

EVENT = "tuning"  # the kind of event in a run's timeline


class TuningFacts:
    """The site's side of tuning; each call is within the transaction of a fact, and tells nobody."""

    def __init__(self, domains: Domains) -> None:
        self._runs = RunRepository()
        self._repository = TuningRepository()
        self._checkpoints = CheckpointService(domains)

    async def changes_of(self, tx: Tx, runs: Iterable[RunId]) -> dict[RunId, list[Change]]:
        """The changes of many runs, as assignments need them."""
        found = await self._repository.changes_of(tx, runs)
        return {run: [change_of(row) for row in rows] for run, rows in found.items()}

    async def started(self, tx: Tx, attempt: RunRow) -> list[str]:
        """The ranks of an attempt run: what it was to start with is in force.

        What its start can't bring about is made live: values that are no parameters of the run
        itself, and those that the checkpoint it goes on from is older than. Answers whom to wake.
        """
        run = RunId(attempt.run_id)
        rows = await self._repository.changes(tx, run)
        if not rows:
            return []
        life = await self._runs.lock_run(tx, run)
        row = await self._runs.run(tx, run)
        assert life is not None, "a run is never deleted"
        assert row is not None, "a run is never deleted"
        found = await self._repository.found(tx, run)
        start = Start(
            attempt.number,
            frozenset(row.spec["params"]),
            since=await self._resumed(tx, attempt),
            optimisers=frozenset(
                one["name"]
                for one in (found.parameters if found is not None else [])
                if one["origin"] == "optimiser"
            ),
        )
        for change in rows:
            if change.state == ChangeState.WAITING and at_start_of(
                change_of(change), start.attempt
            ):
                await self._begin(tx, change, start)
        again = made_again(start, [(change_of(one), one.settled_at) for one in rows])
        if again:
            await self._make_again(tx, rows, start.attempt, again)
        return await topics_of(tx, self._runs, life)

    async def _begin(self, tx: Tx, change: ChangeRow, start: Start) -> None:
        """A change that waited for the start: in force, unless the ranks have to make it live."""
        run = RunId(change.run_id)
        if not start.brings(change.values):
            live: dict[str, Any] = {"attempt": start.attempt, "at_start": False}
            await self._repository.update(tx, run, [change.seq], live)
            return
        values = {
            "state": ChangeState.APPLIED.value,
            "attempt": start.attempt,
            "at_start": True,
            "step": 0,
            "reason": said(f"In force since the start of attempt {start.attempt:d}."),
            "settled_at": func.clock_timestamp(),
        }
        await self._repository.update(tx, run, [change.seq], values)
        words = said(
            f"Change {change.seq:d} in force since the start of attempt {start.attempt:d}."
        )
        await self._runs.add_event(tx, run, EVENT, words)

    async def _make_again(
        self, tx: Tx, rows: Sequence[ChangeRow], attempt: int, again: dict[str, Any]
    ) -> None:
        last = rows[-1]
        await self._repository.insert(
            tx,
            {
                "run_id": last.run_id,
                "seq": last.seq + 1,
                "by": last.by,
                "values": again,
                "before": again,
                "state": ChangeState.WAITING.value,
                "attempt": attempt,
                "at_start": False,
            },
        )
        seq, values = last.seq + 1, values_words(again)
        words = said(f"Change {seq:d} makes {values} again in attempt {attempt:d}.")
        await self._runs.add_event(tx, RunId(last.run_id), EVENT, words)

    async def _resumed(self, tx: Tx, attempt: RunRow) -> datetime | None:
        """When the checkpoint that the attempt goes on from was finished."""
        if attempt.resume_checkpoint is None:
            return None
        return await self._checkpoints.finished_at(tx, attempt.resume_checkpoint)

    async def take(self, tx: Tx, run: RunId, attempt: AttemptId, fact: Tuned) -> list[str]:
        """A site's word on an attempt's tuning; the same word twice changes nothing. Whom to wake."""
        found = fact.model_dump(mode="json", include={"found", "readers", "stepping"})
        found["parameters"] = found.pop("found")
        await self._repository.store_found(tx, run, attempt, found)
        if not fact.changes:
            return [f"run:{run}"]
        life = await self._runs.lock_run(tx, run)
        assert life is not None, "a run is never deleted"
        known = {row.seq: row for row in await self._repository.changes(tx, run)}
        for change in fact.changes:
            row = known.get(change.seq)
            if row is not None:
                await self._settle(tx, row, change)
        return await topics_of(tx, self._runs, life)

    async def _settle(self, tx: Tx, row: ChangeRow, change: TunedChange) -> None:
        """Only a change that waits, or was withdrawn too late, gets another state."""
        run = RunId(row.run_id)
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
            wanted = values_words(row.values)
            text = said(f"Change {row.seq:d}, {wanted}: {words}")
        else:
            values["state"] = ChangeState.FAILED.value
            text = said(f"Change {row.seq:d} was not made: {change.reason}")
        values["settled_at"] = func.clock_timestamp()
        await self._repository.update(tx, run, [row.seq], values)
        await self._runs.add_event(tx, run, EVENT, text)


async def topics_of(tx: Tx, runs: RunRepository, life: RunRow) -> list[str]:
    """Who is to be told when a run's changes are other ones."""
    topics = [f"run:{life.id}"]
    if life.attempt_id and RunState(life.state).live:
        site = await runs.site_of(tx, AttemptId(life.attempt_id))
        topics.append(f"site:{site}")
    return topics


def change_of(row: ChangeRow) -> Change:
    """The part of a row that decides what holds."""
    return Change(row.seq, row.values, ChangeState(row.state), row.attempt, row.at_start)
