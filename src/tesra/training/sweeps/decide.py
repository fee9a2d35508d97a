"""What to do next with a sweep, given its trials and what they reported. Pure."""

import difflib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tesra.kit.saying import Said, said
from tesra.training.model import RunState
from tesra.training.sweeps.model import Goal, Trial, TrialState

BARREN = 3  # trials without the metric, from the first on, that end a sweep


@dataclass(frozen=True, slots=True)
class Ended:
    """How a trial's run ended; ``pruned`` is why we asked it to, if we did."""

    state: RunState
    reason: Said | None = None
    pruned: Said | None = None


@dataclass(frozen=True, slots=True)
class Reported:
    """What a run reported of the metric; ``last`` may not be finite, ``value`` always is."""

    value: float | None = None
    step: int | None = None
    last: float | None = None
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settled:
    """A trial's outcome."""

    state: TrialState
    value: float | None
    step: int | None
    reason: Said | None


def settle(goal: Goal, ended: Ended, reported: Reported) -> Settled:
    """What a trial whose run is over has come to."""

    def outcome(state: TrialState, reason: Said | None) -> Settled:
        return Settled(state, reported.value, reported.step, reason)

    if ended.pruned is not None and ended.state is RunState.STOPPED:
        return outcome(TrialState.PRUNED, ended.pruned)
    if ended.state is RunState.STOPPED:
        return outcome(TrialState.STOPPED, ended.reason or said("Stopped."))
    if ended.state is RunState.FAILED:
        return outcome(TrialState.FAILED, ended.reason or said("Its run failed."))
    if reported.last is None:
        return outcome(TrialState.FAILED, _silent(goal, reported.others))
    if not math.isfinite(reported.last) or reported.value is None:
        as_what = "nan" if math.isnan(reported.last) else "infinite"
        return outcome(TrialState.FAILED, said(f"Its {goal.metric} ended as {as_what}."))
    return outcome(TrialState.COMPLETED, None)


def to_start(trials: Sequence[Trial], *, wanted: int, parallel: int) -> int:
    """How many new trials may begin now."""
    running = sum(trial.state is TrialState.RUNNING for trial in trials)
    return max(0, min(wanted - len(trials), parallel - running))


def barren(goal: Goal, trials: Sequence[Trial], *, wanted: int) -> Said | None:
    """Why a sweep is given up: its first trials have ended and none has reported the metric."""
    if any(trial.value is not None or trial.rungs for trial in trials):
        return None
    over = [t for t in trials if t.state in {TrialState.FAILED, TrialState.COMPLETED}]
    if len(over) < min(BARREN, wanted):
        return None
    last = over[-1]
    why = said(f"Trial {last.number:d}: {last.reason}")
    return said(
        f"None of the first {len(over):d} trials has reported '{goal.metric}'. {why}"
        if len(over) > 1
        else f"The only trial has not reported '{goal.metric}'. {why}"
    )


def _silent(goal: Goal, others: Collection[str]) -> Said:
    """The metrics that were reported instead, and which of them may be meant."""
    if not others:
        return said(
            f"It reported no '{goal.metric}'. No metric at all was seen: print lines such as 'epoch 3 loss 0.12', write TensorBoard"
            " events, or call tesra.log({...})."
        )
    close = difflib.get_close_matches(goal.metric, others, n=3, cutoff=0.5)
    close += [
        name
        for name in sorted(others)
        if name not in close and (goal.metric in name or name in goal.metric)
    ]
    names, more = ", ".join(sorted(others)[:10]), len(others) - 10
    told = said(f"{names} and {more:d} more") if more > 0 else names
    words = said(f"It reported no '{goal.metric}'. Reported were: {told}.")
    if not close:
        return words
    meant = " or ".join(close[:3])
    return Said(f"{words} {said(f'Did you mean {meant}?')}")
