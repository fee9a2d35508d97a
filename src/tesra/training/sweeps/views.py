"""Sweeps and trials as the API shows them."""

from collections import Counter
from collections.abc import Sequence

from tesra.kit.money import MS_PER_HOUR, format_cny, format_micros
from tesra.training.sweeps.model import Goal, TrialState, best_first
from tesra.training.sweeps.repository import AnyRow, trial_of
from tesra.wire.sweeps import Sweep, Trial


def show_trials(goal: Goal, rows: Sequence[AnyRow]) -> list[Trial]:
    """All trials by number, the completed ones with their rank."""
    order = best_first(goal, [trial_of(row, goal) for row in rows])
    done = (trial for trial in order if trial.state is TrialState.COMPLETED)
    ranks = {trial.number: rank for rank, trial in enumerate(done, start=1)}
    return [_trial(row, ranks.get(row.number)) for row in rows]


def show_sweep(row: AnyRow, goal: Goal, trials: Sequence[AnyRow]) -> Sweep:
    """A sweep with what its trials have come to."""
    spec = row.spec
    counts = Counter(trial.state for trial in trials)
    shown = show_trials(goal, trials)
    open_micros = sum(trial.billed_micros or 0 for trial in trials if trial.round == row.round)
    over = row.ended_at is not None
    return Sweep(
        id=row.id,
        project=row.project_id,
        project_name=row.project_name,
        snapshot=spec["run"]["snapshot"],
        state=row.state,
        reason=row.reason,
        notes=spec["notes"],
        space=spec["space"],
        params=spec["run"]["params"],
        metric=goal.metric,
        mode=goal.mode,
        objective=goal.objective,
        algorithm=spec["algorithm"],
        trials=row.wanted,
        parallel=spec["parallel"],
        seed=row.seed,
        max_cost_cny=None if row.max_cost_micros is None else format_cny(row.max_cost_micros),
        counts={state.value: counts.get(state.value, 0) for state in TrialState},
        best=next((trial for trial in shown if trial.rank == 1), None),
        bill=row.bills[-1] if row.bills else None,
        bills=row.bills,
        amount_cny=format_cny(row.billed_micros)
        if over
        else format_micros(row.billed_micros + open_micros),
        th=format_micros(sum(_micro_th(trial) for trial in trials)),
        created_at=row.created_at,
        ended_at=row.ended_at,
    )


def _trial(row: AnyRow, rank: int | None) -> Trial:
    return Trial(
        number=row.number,
        run=row.run_id,
        rank=rank,
        state=row.state,
        run_state=row.run_state,
        params=row.params,
        value=row.value,
        step=row.step,
        reason=row.reason or row.pruned or row.run_reason,
        th=format_micros(_micro_th(row)),
        cost_cny=format_micros(row.billed_micros or 0),
        output=row.output_id,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )


def _micro_th(row: AnyRow) -> int:
    """Of a trial that has ended as it is billed, else so far."""
    if row.billed_micro_th is not None:
        return int(row.billed_micro_th)
    rating = sum(int(device["rating_micro_t"]) for device in row.rated_devices or [])
    return rating * int(row.usage_ms or 0) // MS_PER_HOUR
