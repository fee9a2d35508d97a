"""Sweeps and their trials. Pure.

A sweep is a plan; a trial is one point of its space, tried by one ordinary run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NewType

from tesra.kit.values import Value
from tesra.wire.goals import Mode

SweepId = NewType("SweepId", str)
Objective = Literal["best", "last"]
Algorithm = Literal["tpe", "random", "grid", "asha"]

MAX_TRIALS = 2000
MAX_PARALLEL = 256


class SweepState(StrEnum):
    """Where a sweep is; the last three are terminal, and have a bill."""

    RUNNING = "running"
    STOPPING = "stopping"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def terminal(self) -> bool:
        return self in {SweepState.FINISHED, SweepState.STOPPED, SweepState.FAILED}


class TrialState(StrEnum):
    """Only a completed trial's value counts among the best; a pruned one's teaches the sampler."""

    RUNNING = "running"
    COMPLETED = "completed"
    PRUNED = "pruned"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Goal:
    """What a trial is judged by."""

    metric: str
    mode: Mode
    objective: Objective = "best"

    def better(self, one: float, other: float) -> bool:
        return one < other if self.mode == "min" else one > other

    def key(self, value: float) -> float:
        """Sorts the best first."""
        return value if self.mode == "min" else -value


@dataclass(frozen=True, slots=True)
class Trial:
    """One point and what is known of it; ``rungs``: its value after so many reports (ASHA)."""

    number: int
    state: TrialState
    params: Mapping[str, Value]
    value: float | None = None
    step: int | None = None
    rungs: Mapping[int, float] = field(default_factory=dict)
    reason: str | None = None


def best_first(goal: Goal, trials: list[Trial]) -> list[Trial]:
    """The trials by rank: completed ones by value, then the others by how far they came."""

    def key(trial: Trial) -> tuple[int, float, int]:
        order = (
            TrialState.COMPLETED,
            TrialState.RUNNING,
            TrialState.PRUNED,
            TrialState.STOPPED,
            TrialState.FAILED,
        )
        value = float("inf") if trial.value is None else goal.key(trial.value)
        return order.index(trial.state), value, trial.number

    return sorted(trials, key=key)


def best_of(goal: Goal, trials: list[Trial]) -> Trial | None:
    """The completed trial with the best value, the earliest of equal ones."""
    done = [t for t in trials if t.state is TrialState.COMPLETED and t.value is not None]
    return min(done, key=lambda t: (goal.key(t.value or 0.0), t.number), default=None)
