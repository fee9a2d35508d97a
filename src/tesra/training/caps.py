"""A user's caps on what a run may cost and how long it may run. Pure.

The job is asked to checkpoint and end a *grace* before the cap, so that it ends by then. The node
counts by itself (``stop_after_ms``), the server looks at each usage record; use beyond the cap is
not recorded as billable, so that the bill is at or below the cap whatever happens.
"""

from dataclasses import dataclass

from tesra.billing.pricing import running_ms_for
from tesra.kit.money import MS_PER_HOUR, format_cny
from tesra.kit.saying import Said, said

GRACE_MS = 60_000  # to write a checkpoint, after SIGTERM
GRACE_PART = 10  # of a short cap it is only this part
REPORT_MS = 10_000  # a site reports use so often
NEAR_PERCENT = 80  # when the user is told


@dataclass(frozen=True, slots=True)
class Caps:
    """``None``: as long as it takes."""

    max_cost_micros: int | None = None
    max_time_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run's bill would be made of now: running time and, rounded up, its cost."""

    ms: int
    micros: int


def left_ms(caps: Caps, spent: Spent, *, rating_micro_t: int, price_micros: int) -> int | None:
    """Running time until the nearer cap, at this rating and price; None without one."""
    bounds = []
    if caps.max_time_ms is not None:
        bounds.append(caps.max_time_ms - spent.ms)
    if caps.max_cost_micros is not None:
        left_micros = caps.max_cost_micros - spent.micros
        by_cost = running_ms_for(max(0, left_micros), rating_micro_t, price_micros)
        if by_cost is not None:
            bounds.append(by_cost)
    return max(0, min(bounds)) if bounds else None


def grace_ms(spent: Spent, left: int) -> int:
    """How long before the cap the job is asked to end: the most it gets from then on."""
    return min(GRACE_MS, (spent.ms + left) // GRACE_PART)


def is_due(spent: Spent, left: int) -> bool:
    """Whether to ask now: the next report may come too late."""
    grace = grace_ms(spent, left)
    return left <= grace + min(REPORT_MS, grace)


def is_near(caps: Caps, before: Spent, after: Spent) -> bool:
    """Whether this use crossed ``NEAR_PERCENT`` of a cap."""
    return any(
        cap is not None and old * 100 < cap * NEAR_PERCENT <= new * 100
        for cap, old, new in (
            (caps.max_cost_micros, before.micros, after.micros),
            (caps.max_time_ms, before.ms, after.ms),
        )
    )


def words(caps: Caps, spent: Spent, run: str) -> Said:
    """Why the run is stopped, and the way on: the cap of which the larger part is used up."""
    cap = _nearer(caps, spent)
    return said(f"Stopped at your cap of {cap}; `tesra resume {run}` goes on.")


def near_words(caps: Caps, spent: Spent) -> Said:
    """That a cap comes near."""
    cap = _nearer(caps, spent)
    return said(f"{NEAR_PERCENT} % of your cap of {cap} is used.")


def _nearer(caps: Caps, spent: Spent) -> str:
    cost, time = caps.max_cost_micros, caps.max_time_ms
    if cost is not None and (time is None or spent.micros * time >= spent.ms * cost):
        return f"CNY {format_cny(cost)}"
    return span(time or 0)


def span(ms: int) -> str:
    """``2 h``, ``1 h 30 min``, ``45 s``."""
    hours, rest = divmod(ms, MS_PER_HOUR)
    minutes, rest = divmod(rest, 60_000)
    parts = [(hours, "h"), (minutes, "min"), (rest // 1000, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"
