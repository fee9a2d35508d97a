"""One step of one sweep: settle what has ended, end what is not promising, start what is next.

Everything is decided from the rows, so that it does not matter which server does the next step,
or that one died in the middle of the last: a trial is there exactly when its run is, and is
settled exactly when its row says so.
"""

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import func

from tesra.crypto.aead import Sealer
from tesra.db import leases
from tesra.db.engine import Database, Tx
from tesra.db.notify import topic_with
from tesra.kit.errors import PaymentDue, QuotaExceeded, TesraError, TooMany, Unavailable
from tesra.kit.ids import RunId, UserId
from tesra.kit.money import format_cny
from tesra.kit.saying import said, words_of
from tesra.training.checkpoints.accounts import Accounts
from tesra.training.domains import Domains, SweepEnd
from tesra.training.model import RunState, StopCause, StopRequested
from tesra.training.proposals import Prepared
from tesra.training.service import TrainingService, TrialOf
from tesra.training.sweeps import asha, decide
from tesra.training.sweeps.model import Goal, SweepId, SweepState, Trial, TrialState
from tesra.training.sweeps.readings import Readings
from tesra.training.sweeps.repository import (
    AnyRow,
    SweepRepository,
    storable,
    subject_of,
    trial_of,
)
from tesra.training.sweeps.service import goal_of
from tesra.training.sweeps.study import next_points
from tesra.wire.space import parse_space
from tesra.wire.training import WholeRequest

log = logging.getLogger(__name__)

LEASE_NAME = "sweeps"
_WAITS = (PaymentDue, Unavailable, QuotaExceeded, TooMany)  # what may be otherwise later


@dataclass
class Step:
    """What one look at a sweep has found to be done outside its transaction."""

    row: AnyRow
    trials: list[Trial]
    to_start: int = 0
    to_stop: dict[RunId, StopRequested] = field(default_factory=dict)
    watched: set[RunId] = field(default_factory=set)  # whose metrics matter while they run


class Conductor:
    """Carries sweeps on; called by whoever holds the lease."""

    def __init__(self, domains: Domains, training: TrainingService, readings: Readings) -> None:
        self._database: Database = domains.database
        self._billing = domains.billing
        self._accounts = Accounts()
        self._transitions = domains.transitions
        self._observers = domains.sweep_ended
        self._sealer: Sealer = domains.sealer
        self._training = training
        self._readings = readings
        self._repository = SweepRepository()

    async def live(self) -> list[SweepId]:
        """The sweeps that are not over."""
        async with self._database.begin() as tx:
            return await self._repository.live(tx)

    async def advance(self, sweep: SweepId, token: int) -> set[RunId]:
        """Do what can be done now; answers the runs whose metrics decide what comes next."""
        async with self._database.begin() as tx:
            if not await leases.holds(tx, LEASE_NAME, token):
                return set()
            step = await self._look(tx, sweep)
        if step is None:
            return set()
        for run, event in step.to_stop.items():  # one by one: each locks its run and its devices
            async with self._database.begin() as tx:
                topics = await self._transitions.apply(tx, run, event)
                await self._transitions.tell(tx, topics)
        if step.to_start:
            await self._start(sweep, token, step)
        return step.watched

    # what has happened

    async def _look(self, tx: Tx, sweep: SweepId) -> Step | None:
        row = await self._repository.lock(tx, sweep)
        if row is None or SweepState(row.state).terminal:
            return None
        goal = goal_of(row)
        rows = await self._repository.trials(tx, sweep)
        halving = row.spec["algorithm"] == "asha"
        changes: dict[int, dict[str, Any]] = {}
        trials = [await self._settled(tx, goal, one, changes, halving=halving) for one in rows]
        await self._repository.update_trials(tx, sweep, changes)
        step = Step(row, trials)
        runs = {
            one.number: RunId(one.run_id) for one in rows if not RunState(one.run_state).terminal
        }
        if row.state == SweepState.RUNNING:
            row = await self._ending(tx, step, goal)
        if row.state == SweepState.STOPPING:
            step.to_stop = {run: StopRequested(StopCause.USER, row.reason) for run in runs.values()}
        elif halving:
            await self._prune(tx, step, goal, rows)
        await self._carry_on(tx, step, row, live=len(runs))
        return step

    async def _settled(
        self, tx: Tx, goal: Goal, row: AnyRow, changes: dict[int, dict[str, Any]], *, halving: bool
    ) -> Trial:
        """The trial, settled if its run is over; what is to be stored of it goes to ``changes``."""
        trial, state = trial_of(row, goal), RunState(row.run_state)
        if trial.state is not TrialState.RUNNING or not state.terminal:
            return trial
        run = RunId(row.run_id)
        reported = await self._readings.of(tx, run, goal)
        ended = decide.Ended(state, row.run_reason, row.pruned)
        done = decide.settle(goal, ended, reported)
        rungs = dict(trial.rungs)
        if halving and reported.last is not None:
            rungs |= asha.rungs_of(goal, await self._readings.points(tx, run, goal))
        changes[row.number] = {
            "state": done.state.value,
            "value": done.value,
            "step": done.step,
            "reason": done.reason,
            "rungs": storable(rungs),
        }
        return replace(
            trial,
            state=done.state,
            value=done.value,
            step=done.step,
            reason=done.reason,
            rungs=rungs,
        )

    async def _ending(self, tx: Tx, step: Step, goal: Goal) -> AnyRow:
        """The sweep, stopping if there is a reason to give it up."""
        row, ending = step.row, None
        why = decide.barren(goal, step.trials, wanted=row.wanted)
        if why is not None:
            ending = SweepState.FAILED
        elif row.max_cost_micros is not None:
            cost = await self._cost(tx, row)
            if cost >= row.max_cost_micros:
                ending = SweepState.STOPPED
                cap = format_cny(row.max_cost_micros)
                why = said(f"Stopped at its cap of CNY {cap}.")
        if ending is None:
            return row
        values = {"state": SweepState.STOPPING.value, "ending": ending.value, "reason": why}
        await self._repository.update(tx, SweepId(row.id), values)
        fresh = await self._repository.sweep(tx, SweepId(row.id))
        assert fresh is not None
        step.row = fresh
        return fresh

    async def _cost(self, tx: Tx, row: AnyRow) -> int:
        """Micro-yuan of all rounds so far, running trials included."""
        aside = await self._billing.aside(tx, subject_of(row))
        live = 0
        for trial in await self._repository.trials(tx, SweepId(row.id)):
            if trial.billed_micros is None:
                parts = await self._accounts.parts_now(tx, RunId(trial.run_id))
                live += await self._billing.amount_so_far(tx, parts)
        return int(row.billed_micros) + aside.amount_micros + live

    async def _prune(self, tx: Tx, step: Step, goal: Goal, rows: Sequence[AnyRow]) -> None:
        """End the running trials that ASHA finds not to be among the best."""
        for place, row in enumerate(rows):
            trial = step.trials[place]
            if trial.state is not TrialState.RUNNING or row.run_state != RunState.RUNNING:
                continue
            run = RunId(row.run_id)
            if row.pruned is not None:
                step.to_stop[run] = StopRequested(StopCause.PRUNED, row.pruned)
                continue
            step.watched.add(run)
            points = await self._readings.points(tx, run, goal)
            others = [t.rungs for t in step.trials if t.number != trial.number]
            found = asha.judge(goal, points, known=trial.rungs, others=others)
            if found.rungs == trial.rungs:
                continue
            step.trials[place] = replace(trial, rungs=found.rungs)
            values = {"rungs": storable(found.rungs), "pruned": found.pruned}
            await self._repository.update_trial(tx, SweepId(row.sweep_id), row.number, values)
            if found.pruned is not None:
                step.to_stop[run] = StopRequested(StopCause.PRUNED, found.pruned)

    async def _carry_on(self, tx: Tx, step: Step, row: AnyRow, *, live: int) -> None:
        """How many trials come next; the end and its bill when nothing does."""
        if row.state == SweepState.RUNNING:
            parallel = row.spec["parallel"]
            step.to_start = decide.to_start(step.trials, wanted=row.wanted, parallel=parallel)
            if live or step.to_start:
                return
        elif live:
            return
        await self._finish(tx, row, step.trials)

    async def _finish(self, tx: Tx, row: AnyRow, trials: Sequence[Trial]) -> None:
        subject, owner = subject_of(row), UserId(row.owner)
        cap = None if row.max_cost_micros is None else row.max_cost_micros - row.billed_micros
        bill = await self._billing.make_joint_bill(
            tx, subject, owner, cap_micros=None if cap is None else max(0, cap)
        )
        await self._repository.set_bill(tx, subject, bill.id)
        ending, reason = row.ending, row.reason
        if ending is None:
            done = any(trial.state is TrialState.COMPLETED for trial in trials)
            ending = SweepState.FINISHED.value if done else SweepState.FAILED.value
            reason = None if done else said("No trial has completed.")
        values: dict[str, Any] = {
            "state": ending,
            "reason": reason,
            "secrets": None,
            "bills": [*row.bills, bill.id],
            "billed_micros": row.billed_micros + bill.amount_micros,
            "billed_micro_th": row.billed_micro_th + bill.micro_th,
            "ended_at": func.clock_timestamp(),
        }
        await self._repository.update(tx, SweepId(row.id), values)
        for observer in self._observers:
            await observer(tx, SweepEnd(row.id, owner, row.project_name, reason, bill))
        billed = topic_with(f"user:{owner}", bill=bill.id)
        await self._transitions.tell(tx, [f"sweep:{row.id}", billed])

    # what comes next

    async def _start(self, sweep: SweepId, token: int, step: Step) -> None:
        """Ask for points outside any transaction, then begin all of them or none."""
        spec, goal = step.row.spec, goal_of(step.row)
        points = await asyncio.to_thread(
            next_points,
            spec["algorithm"],
            parse_space(spec["space"]),
            goal,
            seed=step.row.seed,
            trials=step.trials,
            count=step.to_start,
        )
        try:
            async with self._database.begin() as tx:
                if await leases.holds(tx, LEASE_NAME, token):
                    await self._submit(tx, sweep, len(step.trials), points)
        except TesraError as error:
            await self._hold_back(sweep, error)

    async def _submit(
        self, tx: Tx, sweep: SweepId, known: int, points: Sequence[dict[str, Any]]
    ) -> None:
        row = await self._repository.lock(tx, sweep)
        if row is None or row.state != SweepState.RUNNING:
            return
        secrets = self._sealer.open(row.secrets, sweep.encode()) if row.secrets else b"{}"
        template = row.spec["run"] | {"secrets": json.loads(secrets)}
        owner, rows = UserId(row.owner), []
        spare = Prepared(WholeRequest.model_validate(template), row.spec["launch_reason"])
        project = await self._training.admit(tx, owner, spare)
        for number, params in enumerate(points, start=known + 1):
            whole = WholeRequest.model_validate(template | {"params": template["params"] | params})
            trial = TrialOf(sweep, number, subject_of(row))
            prepared = replace(spare, request=whole)
            run = await self._training.enqueue(tx, owner, prepared, project, trial=trial)
            rows.append(
                {
                    "sweep_id": sweep,
                    "number": number,
                    "run_id": run,
                    "round": row.round,
                    "state": TrialState.RUNNING.value,
                    "params": params,
                }
            )
        await self._repository.insert_trials(tx, rows)
        await self._transitions.tell(tx, ["dispatch"])
        if row.reason is not None:
            await self._repository.update(tx, sweep, {"reason": None})

    async def _hold_back(self, sweep: SweepId, error: TesraError) -> None:
        """No trial can begin: wait if that may change, else give the sweep up."""
        words = words_of(error)
        async with self._database.begin() as tx:
            row = await self._repository.lock(tx, sweep)
            if row is None or row.state != SweepState.RUNNING:
                return
            if isinstance(error, _WAITS):
                values: dict[str, str] = {"reason": said(f"Waits: {words}")}
            else:
                log.warning("sweep %s can't go on: %s", sweep, words)
                values = {
                    "state": SweepState.STOPPING.value,
                    "ending": SweepState.FAILED.value,
                    "reason": words,
                }
            if values["reason"] != row.reason:
                await self._repository.update(tx, sweep, values)
