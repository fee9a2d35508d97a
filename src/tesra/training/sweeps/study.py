"""Which point to try next, where trials teach the sampler by Optuna. CPU work, for a thread.

Nothing is kept: the study is made anew from the trials' rows, and the sampler is seeded with the
sweep's seed and the number of the trial. So the same rows give the same next point, on any server
and after any restart. Optuna is loaded only when there is a sweep that learns.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tesra.kit.values import Value
from tesra.training.sweeps.model import Algorithm, Goal, Trial, TrialState
from tesra.training.sweeps.random_search import random_point
from tesra.wire.space import Choice, Distribution, Real, Space, Whole, grid_point

if TYPE_CHECKING:
    import optuna

STARTUP_TRIALS = 10  # drawn at random before TPE has something to learn from


def next_points(
    algorithm: Algorithm,
    space: Space,
    goal: Goal,
    *,
    seed: int,
    trials: Sequence[Trial],
    count: int,
) -> list[dict[str, Value]]:
    """The next ``count`` points, for the trials with the next numbers."""
    first = len(trials)
    if algorithm == "grid":
        return [grid_point(space, first + index) for index in range(count)]
    if algorithm == "random" or not space:
        return [random_point(space, seed=seed, number=first + index) for index in range(count)]
    study, distributions = study_of(space, goal, trials)
    points = []
    for number in range(first, first + count):
        study.sampler = _sampler(seed, number)
        params = study.ask(distributions).params
        points.append({name: _plain(space[name], params[name]) for name in space})
    return points


def study_of(
    space: Space, goal: Goal, trials: Sequence[Trial]
) -> "tuple[optuna.Study, dict[str, optuna.distributions.BaseDistribution]]":
    """The trials as Optuna knows them, and what its parameters may be."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="minimize" if goal.mode == "min" else "maximize")
    distributions = {name: _distribution(one) for name, one in space.items()}
    study.add_trials([_frozen(trial, distributions, space) for trial in trials])
    return study, distributions


def _sampler(seed: int, number: int) -> "optuna.samplers.BaseSampler":
    import optuna

    own = int.from_bytes(hashlib.sha256(f"{seed}:{number}".encode()).digest()[:4])
    return optuna.samplers.TPESampler(seed=own, n_startup_trials=STARTUP_TRIALS, constant_liar=True)


def _frozen(
    trial: Trial, distributions: "dict[str, optuna.distributions.BaseDistribution]", space: Space
) -> "optuna.trial.FrozenTrial":
    from optuna.trial import TrialState as State
    from optuna.trial import create_trial

    state = {
        TrialState.RUNNING: State.RUNNING,
        TrialState.COMPLETED: State.COMPLETE,
        TrialState.PRUNED: State.PRUNED,
    }.get(trial.state, State.FAIL)
    reports = {step: value for step, value in trial.rungs.items() if math.isfinite(value)}
    value = trial.value if state in {State.COMPLETE, State.PRUNED} else None
    if state is State.PRUNED and value is None:
        state = State.FAIL
    return create_trial(
        state=state,
        value=value,
        params={name: trial.params[name] for name in space},
        distributions=distributions,
        intermediate_values=reports,
    )


def _distribution(one: Distribution) -> "optuna.distributions.BaseDistribution":
    from optuna import distributions as d

    match one:
        case Real(low=low, high=high, log=log, step=step):
            return d.FloatDistribution(low, high, log=log, step=step)
        case Whole(low=low, high=high, log=log, step=step):
            return d.IntDistribution(low, high, log=log, step=step)
        case Choice(options=options):
            return d.CategoricalDistribution(options)


def _plain(one: Distribution, value: Any) -> Value:
    """Optuna's value as one of ours; a step's noise of binary fractions is rounded off."""
    if isinstance(one, Real) and one.step is not None:
        return float(f"{value:.15g}")
    plain: Value = value
    return plain
