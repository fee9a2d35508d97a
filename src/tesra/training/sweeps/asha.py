"""Asynchronous successive halving: which trials end early. Pure.

A trial that has made 1, 3, 9, 27, ... reports stands on a rung. There it is compared with all
trials that have stood on that rung so far, and goes on if it is among the best third of them; the
first one always does. (Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020,
as Optuna's SuccessiveHalvingPruner has it.)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tesra.kit.saying import Said, said
from tesra.training.sweeps.model import Goal

REDUCTION = 3
FIRST = 1
LAST = 243  # a longer history is thinned out, so that reports can't be counted any more


@dataclass(frozen=True, slots=True)
class Point:
    """One report of the metric."""

    step: int | None
    value: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """The rungs a trial has reached, and the words with which it ends early, if it does."""

    rungs: dict[int, float]
    pruned: Said | None = None


def rungs_of(goal: Goal, points: Sequence[Point]) -> dict[int, float]:
    """The value at each rung that these reports reach: the best so far, or the last."""
    found: dict[int, float] = {}
    rung = FIRST
    while rung <= min(len(points), LAST):
        seen = [point.value for point in points[:rung]]
        finite = [value for value in seen if math.isfinite(value)]
        worst = math.inf if goal.mode == "min" else -math.inf
        value = worst
        if goal.objective == "last":
            value = seen[-1] if math.isfinite(seen[-1]) else worst
        elif finite:
            value = min(finite) if goal.mode == "min" else max(finite)
        found[rung] = value
        rung *= REDUCTION
    return found


def judge(
    goal: Goal,
    points: Sequence[Point],
    *,
    known: Mapping[int, float],
    others: Sequence[Mapping[int, float]],
) -> Judgement:
    """Whether a running trial goes on; ``known``: the rungs that it was judged at before."""
    reached = rungs_of(goal, points)
    passed = dict(known)
    for rung, value in reached.items():
        if rung in passed:
            continue
        passed[rung] = value
        rivals = [other[rung] for other in others if rung in other]
        if not _goes_on(goal, value, rivals):
            step = points[rung - 1].step
            reached_step = rung if step is None else step
            return Judgement(passed, said(f"Stopped early by ASHA at step {reached_step}."))
    return Judgement(passed)


def _goes_on(goal: Goal, value: float, rivals: Sequence[float]) -> bool:
    standing = sorted([*rivals, value], key=goal.key)
    last_in = standing[max(len(standing) // REDUCTION, 1) - 1]
    return not goal.better(last_in, value)
