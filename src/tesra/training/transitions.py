"""Apply an event to a run in one transaction: decide by the life cycle, then carry out its commands."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import func

from tesra.billing.service import BillingService
from tesra.compute.service import ComputeService
from tesra.db.engine import Tx
from tesra.db.notify import notify_all, topic_with
from tesra.kit.ids import AttemptId, BillId, RunId, SiteId, SnapshotId, UserId
from tesra.kit.saying import Said
from tesra.training.checkpoints.accounts import Accounts
from tesra.training.checkpoints.repository import CheckpointRepository
from tesra.training.lifecycle import advance
from tesra.training.model import (
    AttemptEnded,
    Command,
    Outcome,
    Placed,
    RunEvent,
    RunLife,
    RunState,
    StopCause,
)
from tesra.training.repository import RunRepository, RunRow, life_of


@dataclass(frozen=True, slots=True)
class Result:
    """What an attempt left behind, stored together with the terminal state."""

    output: SnapshotId | None = None
    output_size_bytes: int | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RunChange:
    """A run has gone from one state to another; ``bill`` and its amount come with a terminal one."""

    run: RunId
    owner: UserId
    before: RunState
    after: RunState
    reason: Said | None
    attempt: AttemptId | None
    stop: StopCause | None
    sweep: str | None = None
    bill: BillId | None = None
    amount_micros: int | None = None
    project: str | None = None
    anew: bool = False  # queued again at its user's wish


Observer = Callable[[Tx, RunChange], Awaitable[None]]


class Transitions:
    """The only place where a run's state is written.

    Each of ``observers`` is called after each change of state, in its transaction: what it writes
    is there exactly when the change is, and if it raises, nothing has changed.
    """

    def __init__(
        self,
        compute: ComputeService,
        billing: BillingService,
        *,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._repository = RunRepository()
        self._checkpoints = CheckpointRepository()
        self._accounts = Accounts()
        self._compute = compute
        self._billing = billing
        self._observers = observers

    async def apply(
        self,
        tx: Tx,
        run: RunId,
        event: RunEvent,
        *,
        result: Result | None = None,
        noted: Mapping[str, Any] | None = None,
        locked: RunRow | None = None,
    ) -> list[str]:
        """Bring ``event`` about; terminal state, output and bill become visible together.

        ``noted``: what else the event says of its attempt, to be kept with it. ``locked``: the run
        as ``lock_run`` gives it, when this transaction has done that. Answers the topics to
        ``tell`` at the end of the transaction.
        """
        row = locked or await self._repository.lock_run(tx, run)
        assert row is not None, f"run {run} has vanished"
        before = life_of(row)
        after, commands = advance(before, await self._complete(tx, event))
        if after == before and not commands:
            return []
        values = _changed(before, after)
        attempt = before.attempt or after.attempt
        site = await self._note_attempt(tx, attempt, (event, before, after), commands, noted or {})
        if Command.MARK_STARTED in commands and row.started_at is None:
            values["started_at"] = func.clock_timestamp()
        if before.state.live and after.state is RunState.QUEUED:
            values |= await self._accounts.earlier(tx, after, run)
        if after.state.terminal:
            values |= await self._close(tx, row, after, commands, result or Result())
        moved = after.state is not before.state
        told = (after.state.value, after.reason or Said("")) if moved else None
        await self._repository.update_run(tx, run, values, event=told)
        topics = await self._carry_out(tx, attempt, commands, site)
        if moved and self._observers:
            change = _change(row, before, after, values)
            for observer in self._observers:
                await observer(tx, change)
        if after.state.terminal and row.sweep_id is not None:
            topics.append("sweeps")
        return [f"run:{run}", topic_with(f"user:{row.owner}", run=run), *topics]

    async def _complete(self, tx: Tx, event: RunEvent) -> RunEvent:
        """With what the database knows of it: the checkpoint that a lost attempt leaves."""
        if not isinstance(event, AttemptEnded) or event.outcome is not Outcome.LOST:
            return event
        return replace(event, checkpoint=await self._checkpoints.last_of(tx, event.attempt))

    async def _note_attempt(
        self,
        tx: Tx,
        attempt: AttemptId | None,
        step: tuple[RunEvent, RunLife, RunLife],
        commands: list[Command],
        noted: Mapping[str, Any],
    ) -> SiteId | None:
        """What the run's bill will need to know of its attempt, and when it started and ended.

        Answers where it was placed, when that is at hand.
        """
        event, before, after = step
        values = dict(noted)
        if isinstance(event, Placed) and after.resume is not None:
            values["resume_checkpoint"] = after.resume
        if isinstance(event, AttemptEnded):
            values["outcome"] = _outcome(event, before)
        moments = {Command.MARK_STARTED: "started_at", Command.END_ATTEMPT: "ended_at"}
        for command, column in moments.items():
            if command in commands:
                values[column] = func.clock_timestamp()
        if attempt is None or not values:
            return None
        return await self._repository.update_attempt(tx, attempt, values)

    async def tell(self, tx: Tx, topics: Iterable[str]) -> None:
        """Wake all who wait for these; the last thing a transaction does, since sites' rows are hot."""
        unique = list(dict.fromkeys(topics))
        for topic in unique:
            kind, _, name = topic.partition(":")
            if kind == "site":
                await self._compute.sites.assignments_changed(tx, SiteId(name))
        if unique:
            await notify_all(tx, unique)

    async def _close(
        self, tx: Tx, row: RunRow, life: RunLife, commands: list[Command], result: Result
    ) -> dict[str, Any]:
        return await self._bill(tx, row, life, chargeable=Command.BILL_USE in commands) | {
            "ended_at": func.clock_timestamp(),
            "secrets": None,
            "output_id": result.output,
            "output_size_bytes": result.output_size_bytes,
            "warnings": [*row.warnings, *result.warnings],
        }

    async def _bill(
        self, tx: Tx, row: RunRow, life: RunLife, *, chargeable: bool
    ) -> dict[str, Any]:
        """The run's own bill, or its share of one that is made later for several runs."""
        if row.smoke:
            return {"billed_micros": 0, "billed_micro_th": 0}
        run = RunId(row.id)
        parts = await self._accounts.parts(tx, life, run) if chargeable else []
        if row.bill_subject is not None:
            share = await self._billing.set_aside(
                tx,
                run,
                subject=row.bill_subject,
                trial=row.trial,
                parts=parts,
            )
            return {"billed_micros": share.amount_micros, "billed_micro_th": share.micro_th}
        bill = await self._billing.make_bill(
            tx,
            run,
            UserId(row.owner),
            parts=parts,
            note=None if parts else life.reason,
            cap_micros=row.max_cost_micros,
        )
        return {
            "bill_id": bill.id,
            "billed_micros": bill.amount_micros,
            "billed_micro_th": bill.micro_th,
        }

    async def _carry_out(
        self, tx: Tx, attempt: AttemptId | None, commands: list[Command], site: SiteId | None
    ) -> list[str]:
        """What the commands ask for; answers whom to wake."""
        if attempt is None:
            return []
        topics = []
        if Command.RELEASE_DEVICES in commands:
            await self._compute.release(tx, attempt)
        if Command.WAKE_DISPATCHER in commands:
            topics.append("dispatch")
        if Command.TELL_SITE in commands:
            site = site or await self._repository.site_of(tx, attempt)
            topics.append(f"site:{site}")
        return topics


def _change(row: RunRow, before: RunLife, after: RunLife, values: dict[str, Any]) -> RunChange:
    return RunChange(
        run=RunId(row.id),
        owner=UserId(row.owner),
        before=before.state,
        after=after.state,
        reason=after.reason,
        attempt=before.attempt or after.attempt,
        stop=after.stop,
        sweep=row.sweep_id,
        bill=values.get("bill_id"),
        amount_micros=values.get("billed_micros"),
        project=row.project_name,
        anew=before.restart is not None,
    )


def _changed(before: RunLife, after: RunLife) -> dict[str, Any]:
    """The columns that differ; ``attempts`` counts tries, ``attempt_id`` is the present one."""
    values: dict[str, Any] = {}
    for column, old, new in (
        ("state", before.state, after.state),
        ("phase", before.phase, after.phase),
        ("reason", before.reason, after.reason),
        ("exit_code", before.exit_code, after.exit_code),
        ("stop", before.stop, after.stop),
        ("attempt_id", before.attempt, after.attempt),
        ("attempts", before.attempts, after.attempts),
        ("restarts", before.restarts, after.restarts),
        ("resume_checkpoint", before.resume, after.resume),
        ("restart_checkpoint", _wish(before, "checkpoint"), _wish(after, "checkpoint")),
        ("restart_why", _wish(before, "why"), _wish(after, "why")),
    ):
        if old != new:
            values[column] = new.value if isinstance(new, RunState) else new
    return values


def _wish(life: RunLife, part: str) -> str | None:
    return getattr(life.restart, part) if life.restart is not None else None


def _outcome(event: AttemptEnded, before: RunLife) -> str:
    """How the attempt ended, as its bill needs it: one that its user began anew was not lost."""
    anew = before.restart is not None and event.outcome in (Outcome.STOPPED, Outcome.FAILED)
    return "restarted" if anew else event.outcome.value
