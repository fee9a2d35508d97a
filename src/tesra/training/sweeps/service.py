"""What a user does with sweeps: begin, look at, stop, go on."""

import json
import secrets
from dataclasses import dataclass, replace
from typing import Any

from tesra.db.engine import Tx
from tesra.db.notify import notify
from tesra.kit.errors import Conflict, NotFound
from tesra.kit.ids import RunId, UserId, new_id
from tesra.kit.money import parse_cny
from tesra.kit.saying import Said, said
from tesra.training.domains import Domains
from tesra.training.proposals import Prepared
from tesra.training.service import TrainingService
from tesra.training.sweeps import plan
from tesra.training.sweeps.model import Goal, SweepId, SweepState
from tesra.training.sweeps.model import Trial as JudgedTrial
from tesra.training.sweeps.readings import Readings
from tesra.training.sweeps.repository import AnyRow, SweepRepository, trial_of
from tesra.training.sweeps.views import show_sweep, show_trials
from tesra.wire.space import Space, first_point, parse_space
from tesra.wire.sweeps import Sweep, SweepMore, SweepRequest, Trial
from tesra.wire.training import WholeRequest

TOPIC = "sweeps"


class SweepNotFound(NotFound):
    """There is no such sweep among yours."""


class SweepEnds(Conflict):
    """The sweep is stopping: wait until it has stopped."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A sweep that can be, and its run, which is whole."""

    request: SweepRequest
    run: Prepared


def goal_of(row: AnyRow) -> Goal:
    """What the trials of a stored sweep are judged by."""
    return Goal(row.spec["metric"], row.mode, row.spec["objective"])


class SweepService:
    """Sweeps, from the user's side; the runner does the work."""

    def __init__(self, domains: Domains, training: TrainingService, readings: Readings) -> None:
        self._compute = domains.compute
        self._billing = domains.billing
        self._drive = domains.drive
        self._sealer = domains.sealer
        self._training = training
        self.readings = readings
        self._repository = SweepRepository()

    async def check(self, owner: UserId, request: SweepRequest) -> Checked:
        """The sweep as it will be, its run's gaps filled from the code; refuses what cannot work.

        Reads the project, so outside a transaction.
        """
        plan.check_numbers(request.trials, request.parallel)
        plan.mode_for(request)
        plan.check_space(request)
        fixed = request.run.params
        point = {"params": fixed | first_point(parse_space(request.space))}
        run = await self._training.check(owner, request.run.model_copy(update=point))
        whole = run.request.model_copy(update={"params": fixed})
        return Checked(request, replace(run, request=whole))

    async def create(self, tx: Tx, owner: UserId, checked: Checked) -> Sweep:
        """Store a sweep, whose trials the runner starts; refused while a bill is unpaid."""
        await self._billing.require_settled(tx, owner)
        request, run = checked.request, checked.run.request
        project = await self._drive.project(tx, owner, run.project)
        await self._training.check_devices(tx, run)
        engine = self._training.engines.resolve(run.engine, run.backend)
        pinned = run.model_dump(mode="json") | {
            "project": project.id,
            "engine": f"{engine.name}=={engine.version}",
            "secrets": sorted(run.secrets),
        }
        notes = [*checked.run.warnings, *await self._crowded(tx, run, request)]
        sweep = SweepId(new_id("swp"))
        values = {
            "id": sweep,
            "owner": owner,
            "project_id": project.id,
            "project_name": project.name,
            "spec": request.model_dump(mode="json")
            | {"run": pinned, "launch_reason": checked.run.launch_reason, "notes": notes},
            "secrets": self._seal(sweep, run.secrets),
            "mode": plan.mode_for(request),
            "seed": secrets.randbelow(2**31) if request.seed is None else request.seed,
            "state": SweepState.RUNNING.value,
            "wanted": plan.wanted(request),
            "max_cost_micros": parse_cny(request.max_cost_cny) if request.max_cost_cny else None,
        }
        await self._repository.insert(tx, values)
        await notify(tx, TOPIC)
        return await self.sweep(tx, owner, sweep)

    async def sweep(self, tx: Tx, owner: UserId, sweep: SweepId) -> Sweep:
        """One of the owner's sweeps."""
        row = await self._row(tx, owner, sweep)
        trials = await self._repository.trials(tx, sweep)
        return show_sweep(row, goal_of(row), trials)

    async def sweeps(
        self, tx: Tx, owner: UserId, *, cursor: str | None = None, limit: int = 50
    ) -> list[Sweep]:
        """The owner's sweeps, the newest first; ``cursor`` is the last id of the page before."""
        rows = await self._repository.sweeps_of(tx, owner, before=cursor, limit=limit)
        trials: dict[str, list[AnyRow]] = {row.id: [] for row in rows}
        if rows:
            for trial in await self._repository.trials_of(tx, [SweepId(row.id) for row in rows]):
                trials[trial.sweep_id].append(trial)
        return [show_sweep(row, goal_of(row), trials[row.id]) for row in rows]

    async def trials(
        self, tx: Tx, owner: UserId, sweep: SweepId, *, after: int = 0, limit: int = 200
    ) -> list[Trial]:
        """The sweep's trials by number, running ones with what they have reported so far."""
        row = await self._row(tx, owner, sweep)
        goal = goal_of(row)
        rows = await self._repository.trials(tx, sweep)
        shown = [one for one in show_trials(goal, rows) if one.number > after][:limit]
        return [
            one
            if one.state != "running"
            else one.model_copy(update=await self._so_far(tx, RunId(one.run), goal))
            for one in shown
        ]

    async def judged(
        self, tx: Tx, owner: UserId, sweep: SweepId
    ) -> tuple[Space, Goal, list[JudgedTrial]]:
        """What ``importances`` needs to know of one of the owner's sweeps."""
        row = await self._row(tx, owner, sweep)
        goal = goal_of(row)
        rows = await self._repository.trials(tx, sweep)
        return parse_space(row.spec["space"]), goal, [trial_of(one, goal) for one in rows]

    async def stop(self, tx: Tx, owner: UserId, sweep: SweepId) -> Sweep:
        """Ask for the end of all its trials; harmless when it has ended."""
        row = await self._repository.lock(tx, sweep, owner=owner)
        if row is None:
            raise _not_found()
        if row.state == SweepState.RUNNING:
            values = {
                "state": SweepState.STOPPING.value,
                "ending": SweepState.STOPPED.value,
                "reason": said("Stopped by its owner."),
            }
            await self._repository.update(tx, sweep, values)
            await notify(tx, TOPIC)
        return await self.sweep(tx, owner, sweep)

    async def resume(self, tx: Tx, owner: UserId, sweep: SweepId, more: SweepMore) -> Sweep:
        """Some more trials, learning from those that were; what they use goes on a bill of its own."""
        row = await self._repository.lock(tx, sweep, owner=owner)
        if row is None:
            raise _not_found()
        if row.state == SweepState.STOPPING:
            raise SweepEnds
        live = row.state == SweepState.RUNNING
        done = row.wanted if live else len(await self._repository.trials(tx, sweep))
        plan.check_more(row.spec, done, more.trials)
        values: dict[str, Any] = {"wanted": done + more.trials}
        if more.max_cost_cny:
            values["max_cost_micros"] = parse_cny(more.max_cost_cny)
        if not live:
            await self._billing.require_settled(tx, owner)
            values |= self._reopened(row, more)
        await self._repository.update(tx, sweep, values)
        await notify(tx, TOPIC)
        return await self.sweep(tx, owner, sweep)

    def _reopened(self, row: AnyRow, more: SweepMore) -> dict[str, Any]:
        named = set(row.spec["run"]["secrets"])
        missing = sorted(named - set(more.secrets))
        if missing:
            raise plan.SweepInvalid(
                f"The trials need {', '.join(missing)}: secrets are forgotten when a sweep ends.",
                way_out=f"Give them again: --secret {missing[0]}.",
            )
        given = {name: more.secrets[name] for name in named}
        fresh = row.round if not row.bills else row.round + 1
        return {
            "state": SweepState.RUNNING.value,
            "ending": None,
            "reason": None,
            "ended_at": None,
            "round": fresh,
            "secrets": self._seal(SweepId(row.id), given),
        }

    async def _so_far(self, tx: Tx, run: RunId, goal: Goal) -> dict[str, Any]:
        reported = await self.readings.of(tx, run, goal)
        return {"value": reported.value, "step": reported.step}

    async def _crowded(self, tx: Tx, run: WholeRequest, request: SweepRequest) -> list[Said]:
        """Whether so many trials at a time fit the devices that are online."""
        online = await self._compute.online_devices(tx)
        fitting = [one for one in online if run.device_class in {None, one.device_class}]
        at_once = len(fitting) // run.devices
        parallel = min(request.parallel, plan.wanted(request))
        if parallel <= at_once:
            return []
        needed, there = parallel * run.devices, len(fitting)
        return [
            said(
                f"{parallel:d} trials at a time need {needed:d} devices, and {there:d} are online:"
                f" {at_once:d} at a time will run, the others wait."
            )
        ]

    def _seal(self, sweep: SweepId, given: dict[str, str]) -> bytes | None:
        return self._sealer.seal(json.dumps(given).encode(), sweep.encode()) if given else None

    async def _row(self, tx: Tx, owner: UserId, sweep: SweepId) -> AnyRow:
        row = await self._repository.sweep(tx, sweep, owner=owner)
        if row is None:
            raise _not_found()
        return row


def _not_found() -> SweepNotFound:
    return SweepNotFound(way_out="List yours with `tesra sweeps`.")
