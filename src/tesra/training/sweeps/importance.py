"""Which parameters of a sweep decided, by Optuna's PED-ANOVA. CPU work, for a thread."""

import math
from collections.abc import Sequence

from tesra.training.sweeps.model import Goal, Trial, TrialState
from tesra.training.sweeps.study import study_of
from tesra.wire.space import Space

FEWEST = 8  # completed trials; fewer say nothing


def importances(space: Space, goal: Goal, trials: Sequence[Trial]) -> dict[str, float]:
    """Shares that add up to 1, the largest first; empty while there is too little to tell."""
    done = [
        trial
        for trial in trials
        if trial.state is TrialState.COMPLETED
        and trial.value is not None
        and math.isfinite(trial.value)
    ]
    if len(done) < FEWEST or len({trial.value for trial in done}) < 2 or len(space) < 2:
        return {}
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    study, _ = study_of(space, goal, done)
    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
