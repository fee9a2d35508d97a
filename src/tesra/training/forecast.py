"""When a run ends and what it will cost, from the epochs or steps it has done. Pure.

A forecast needs how far the run has to go (said by the script or a parameter) and how fast it goes
lately. Without both there is none: a guess helps nobody.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tesra.kit.saying import Said, said

RECENT_S = 600.0
LEAST_SAMPLES = 2
_STALLED = 3  # so many times the longest pause lately: nothing can be said of the pace
_STALLED_S = 120.0
TOTALS: dict[str, tuple[str, ...]] = {  # parameters that say how far, for each count
    "step": ("max_steps", "steps", "num_steps", "total_steps", "max_iters", "iterations"),
    "epoch": ("epochs", "max_epochs", "num_epochs", "n_epochs", "num_train_epochs"),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """The count was this at this time (seconds)."""

    at: float
    value: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """``left_s`` from now on; ``words`` say what it is drawn from."""

    left_s: float
    words: Said


def total_of(count: str, params: Mapping[str, object], told: Mapping[str, float]) -> float | None:
    """How far the run goes: what the script says itself, else a parameter of a known name."""
    total: object = told.get(f"{count}s")
    if total is None:
        total = next((params[name] for name in TOTALS[count] if name in params), None)
    if isinstance(total, bool) or not isinstance(total, (int, float)):
        return None
    return float(total) if total > 0 else None


def forecast(
    count: str, total: float | None, samples: Sequence[Sample], *, now: float
) -> Forecast | None:
    """From a count's recent pace; None when that is not known, or the count has got there."""
    if total is None or len(samples) < LEAST_SAMPLES:
        return None
    samples = sorted(samples, key=lambda sample: sample.at)
    first, last = samples[0], samples[-1]
    recent = [sample for sample in samples if sample.at >= last.at - RECENT_S]
    begin = recent[0] if len(recent) >= LEAST_SAMPLES else samples[-LEAST_SAMPLES]
    spent_s, made = last.at - begin.at, last.value - begin.value
    if spent_s <= 0 or made <= 0 or _is_stalled(samples, now):
        return None
    done = last.value + _offset(samples, first.value)
    if done >= total:
        return None
    each_s = spent_s / made
    left_s = (total - done) * each_s - max(0.0, now - last.at)
    pace = _pace(each_s)
    words = (
        said(f"epoch {done:g} of {total:g}, {pace} each")
        if count == "epoch"
        else said(f"step {done:g} of {total:g}, {pace} each")
    )
    return Forecast(max(0.0, left_s), words)


def _offset(samples: Sequence[Sample], first: float) -> int:
    """Whole counts that begin at 0 name what is being done or just was: one more than before it."""
    return int(first == 0 and all(float(sample.value).is_integer() for sample in samples))


def _is_stalled(samples: Sequence[Sample], now: float) -> bool:
    pauses = [after.at - before.at for before, after in pairwise(samples)]
    return now - samples[-1].at > max(_STALLED_S, _STALLED * max(pauses[-10:]))


def _pace(each_s: float) -> str:
    return f"{each_s:.3g} s" if each_s < 120 else f"{each_s / 60:.3g} min"
