"""Metrics: what nodes deliver, and what the run's owner sees of it."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from tesra.kit.ids import RunId
from tesra.training.metrics.model import Series
from tesra.web.auth import Reader
from tesra.web.context import ServicesDep
from tesra.web.metric_stream import MetricView, metric_news, metric_points
from tesra.web.ui.scripts import ToldTo
from tesra.wire.metrics import Axis, MetricHistory, Metrics, MetricSeries

MAX_AT_ONCE = 50  # names in one request

router = APIRouter(prefix="/api/v1", tags=["metrics"])

MetricNames = Annotated[
    list[Annotated[str, Query(max_length=512)]], Query(min_length=1, max_length=MAX_AT_ONCE)
]
Rank = Annotated[int | None, Query(ge=0, le=100_000)]
Points = Annotated[int, Query(ge=10, le=5000)]
Cursor = Annotated[int, Query(ge=0, le=2**62)]


@router.get("/runs/{run}/metrics")
async def names(
    run: str, services: ServicesDep, caller: Reader, tell: ToldTo, rank: Rank = None
) -> Metrics:
    """What is known of a run in numbers: every name with its newest, lowest and highest value."""
    async with services.database.begin() as tx:
        await services.training.check_rank(tx, caller.user_id, RunId(run), rank)
        found = await services.metrics.overview(tx, RunId(run), rank=rank)
    return found.model_copy(update={"notes": [tell(note) for note in found.notes]})


@router.get("/runs/{run}/metrics/history")
async def history(
    run: str,
    services: ServicesDep,
    caller: Reader,
    name: MetricNames,
    rank: Rank = None,
    points: Points = 500,
    x: Axis = "step",
) -> MetricHistory:
    """Metrics for charts, at most ``points`` each, peaks and gaps kept; of the lowest rank by default."""
    async with services.database.begin() as tx:
        await services.training.check_rank(tx, caller.user_id, RunId(run), rank)
        found = await services.metrics.histories(
            tx, RunId(run), name, rank=rank, points=points, axis=x
        )
    return MetricHistory(run=run, x=x, series=[_series(one) for one in found])


@router.get("/runs/{run}/metrics/devices")
async def devices(
    run: str, services: ServicesDep, caller: Reader, points: Points = 500
) -> MetricHistory:
    """How the run's devices were used: ``use`` (0 to 1), ``memory_bytes``, ``power_w`` over time."""
    async with services.database.begin() as tx:
        await services.training.check_rank(tx, caller.user_id, RunId(run), None)
        found = await services.metrics.devices(tx, RunId(run), points=points)
        places = await services.metrics.device_places(tx, RunId(run))
        names = await services.compute.node_names(tx)
    several = len({node for node, _ in places.values()}) > 1
    shown = []
    for one in found:
        node, index = places.get(one.device, ("", 0))
        named = names.get(node, node) if several else None
        shown.append(_series(one).model_copy(update={"index": index, "node": named}))
    return MetricHistory(run=run, x="time", series=shown)


@router.get("/runs/{run}/metrics/export", response_class=StreamingResponse)
async def export(
    run: str,
    services: ServicesDep,
    caller: Reader,
    name: Annotated[list[Annotated[str, Query(max_length=512)]], Query(max_length=50)] = [],  # noqa: B006 - FastAPI copies it
    follow: bool = False,
) -> StreamingResponse:
    """All points as NDJSON (``MetricPoint`` a line), of these names or of all, each step once.

    With ``follow`` every attempt's points, those that come too, until the run ends.
    """
    async with services.database.begin() as tx:
        await services.training.check_rank(tx, caller.user_id, RunId(run), None)
        await services.metrics.check_names(tx, RunId(run), name)
    names = tuple(name) or None
    view = MetricView(owner=caller.user_id, run=RunId(run), names=names, follow=follow)
    return StreamingResponse(metric_points(services, view), media_type="application/x-ndjson")


@router.get("/runs/{run}/metrics/stream", response_class=StreamingResponse)
async def stream(
    run: str, services: ServicesDep, caller: Reader, after: Cursor = 0, follow: bool = False
) -> StreamingResponse:
    """The newest values as NDJSON (``MetricNews`` a line) from cursor ``after`` on; ``follow`` until the end."""
    async with services.database.begin() as tx:
        await services.training.check_rank(tx, caller.user_id, RunId(run), None)
    view = MetricView(owner=caller.user_id, run=RunId(run), after=after, follow=follow)
    return StreamingResponse(metric_news(services, view), media_type="application/x-ndjson")


def _series(series: Series) -> MetricSeries:
    return MetricSeries(
        name=series.name,
        rank=series.rank,
        origin=series.origin,
        count=series.count,
        nonfinite=series.nonfinite,
        steps=series.steps,
        times=series.times,
        values=series.values,
        device=series.device or None,
    )
