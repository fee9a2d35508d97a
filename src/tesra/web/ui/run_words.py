"""A run's way from the queue to its end, as a line of steps. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from tesra.wire.training import Run, RunEvent, RunState

WAY: tuple[RunState, ...] = ("queued", "placing", "preparing", "running")
ENDS: frozenset[str] = frozenset({"succeeded", "failed", "stopped"})


@dataclass(frozen=True, slots=True)
class Step:
    """One state of the way: when it began (in this attempt), and how long it lasted."""

    name: str  # a state, or "ended" for an end that is not there yet
    place: Literal["done", "now", "next", "skipped"]
    at: datetime | None = None
    lasted_s: float | None = None


def steps_of(run: Run, events: Sequence[RunEvent]) -> list[Step]:
    """The way of the present attempt: behind the last time that the run was queued."""
    since = _last_way(run, events)
    over = run.state in ENDS
    names: list[str] = [*WAY, run.state if over else "ended"]
    moments: list[datetime | None] = [since.get(name) for name in names]
    now = len(names) - 1 if over else names.index(run.state)
    steps = []
    for place, (name, at) in enumerate(zip(names, moments, strict=True)):
        if place > now:
            steps.append(Step(name, "next"))
        elif place == now:
            steps.append(Step(name, "now", at))
        elif at is None:
            steps.append(Step(name, "skipped"))
        else:
            until = next((later for later in moments[place + 1 :] if later is not None), None)
            lasted_s = (until - at).total_seconds() if until is not None else None
            steps.append(Step(name, "done", at, lasted_s))
    return steps


def _last_way(run: Run, events: Sequence[RunEvent]) -> dict[str, datetime]:
    since: dict[str, datetime] = {"queued": run.created_at}
    for event in events:
        if event.kind == "queued":
            since = {"queued": event.at}
        elif event.kind in {*WAY, *ENDS}:
            since[event.kind] = event.at
    return since
