"""Runs beside each other: what they were given and came to, with the differences marked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Query, Response

from tesra.kit.ids import RunId
from tesra.training.model import RunFilter
from tesra.web.log_stream import TERMINAL
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import Member
from tesra.wire.metrics import Metrics
from tesra.wire.training import Run

MOST_RUNS = 12
OFFERED = 50
MOST_RESULTS = 200  # metrics in the table; the charts have all

router = PageRouter()


@dataclass(frozen=True, slots=True)
class Row:
    """One thing of all runs; None where a run does not have it. ``name`` is the user's own, if any."""

    key: str
    values: tuple[Any, ...]
    name: str | None = None

    @property
    def differs(self) -> bool:
        return any(value != self.values[0] for value in self.values[1:])


_TOLD: Mapping[str, Callable[[Run], Any]] = {
    "state": lambda run: run.state,
    "engine": lambda run: run.engine if run.backend is None else f"{run.engine} ({run.backend})",
    "entry": lambda run: run.entry if isinstance(run.entry, str) else " ".join(run.entry),
    "args": lambda run: " ".join(run.args) or None,
    "snapshot": lambda run: run.snapshot,
    "devices": lambda run: run.devices,
    "device_class": lambda run: run.device_class,
    "data": lambda run: ", ".join(one.path for one in run.data) or None,
    "seconds": lambda run: _seconds(run),
    "cost": lambda run: run.amount_cny,
    "th": lambda run: run.th,
}


@router.get("/training/compare")
async def compare(
    visit: Member,
    run: Annotated[list[Annotated[str, Query(max_length=64)]], Query(max_length=100)] = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """The runs of the address; without any, a list to pick from."""
    services, owner = visit.services, visit.member.user_id
    asked = list(dict.fromkeys(run))
    async with services.database.begin() as tx:
        found = [await services.training.run(tx, owner, RunId(one)) for one in asked[:MOST_RUNS]]
        metrics = [await services.metrics.overview(tx, RunId(one.id)) for one in found]
        recent = await services.training.runs(tx, owner, RunFilter(), limit=OFFERED)
    known = {one.id for one in found}
    return visit.page(
        "run/compare.html",
        runs=found,
        told=[Row(key, tuple(tell(one) for one in found)) for key, tell in _TOLD.items()],
        params=_params(found),
        results=_results(metrics),
        offered=[*found, *(one for one in recent if one.id not in known)],
        chosen=known,
        too_many=len(asked) > MOST_RUNS,
        most=MOST_RUNS,
        live=any(one.state not in TERMINAL for one in found),
    )


def _params(runs: Sequence[Run]) -> list[Row]:
    names = dict.fromkeys(name for run in runs for name in run.params)
    return [Row("param", tuple(run.params.get(name) for run in runs), name) for name in names]


def _results(metrics: Sequence[Metrics]) -> list[Row]:
    """The last value of each metric."""
    last = [{one.name: one.last for one in each.names} for each in metrics]
    names = list(dict.fromkeys(_in_turn([list(each) for each in last])))[:MOST_RESULTS]
    return [Row("metric", tuple(each.get(name) for each in last), name) for name in sorted(names)]


def _in_turn(lists: Sequence[Sequence[str]]) -> Iterator[str]:
    for place in range(max((len(one) for one in lists), default=0)):
        yield from (one[place] for one in lists if place < len(one))


def _seconds(run: Run) -> int | None:
    if run.started_at is None or run.ended_at is None:
        return None
    return round((run.ended_at - run.started_at).total_seconds())
