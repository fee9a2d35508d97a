"""Live pages and the log beside them: docs/spec/live.md."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from tesra.kit.errors import Invalid
from tesra.kit.ids import RunId
from tesra.training.log_reading import Span, newest_segment
from tesra.web.auth import Reader
from tesra.web.context import ServicesDep
from tesra.web.live.answer import EventStream
from tesra.web.live.events import cursor_of
from tesra.web.live.hubs import Hubs
from tesra.web.live.run_stream import RunView, run_events
from tesra.web.live.user_hub import user_events
from tesra.web.log_stream import TERMINAL
from tesra.web.log_text import log_parts, log_text, search_log
from tesra.wire.live import LogParts, LogSearch

MOST_TAIL = 20_000
MOST_LINES = 5_000

router = APIRouter(prefix="/api/v1", tags=["live"])

Rank = Annotated[int | None, Query(ge=-1, le=100_000)]
Cursor = Annotated[int | None, Query(ge=0, le=2**62)]


class TwoDirections(Invalid):
    """Lines are read behind a cursor or before one, not both."""


async def _hubs(request: Request) -> Hubs:
    hubs: Hubs = request.app.state.hubs
    return hubs


HubsDep = Annotated[Hubs, Depends(_hubs)]


@router.get("/runs/{run}/live", response_class=EventStream)
async def run_live(
    run: str,
    services: ServicesDep,
    hubs: HubsDep,
    caller: Reader,
    rank: Rank = None,
    after: Cursor = None,
    tail: Annotated[int | None, Query(ge=0, le=MOST_TAIL)] = None,
    last_event_id: Annotated[str | None, Header(max_length=64)] = None,
) -> Response:
    """A run as events: its lines behind a cursor, its state, metrics, devices, changes; until it ends.

    204 when ``Last-Event-ID`` says that the end was seen.
    """
    async with services.database.begin() as tx:
        await services.training.check_rank(tx, caller.user_id, RunId(run), rank)
        seen, ended = cursor_of(last_event_id)
        if ended:
            found = await services.training.run(tx, caller.user_id, RunId(run))
            if found.state in TERMINAL:
                return Response(status_code=204)
    cursor = after if seen is None else seen
    view = RunView(caller.user_id, RunId(run), rank=rank, after=cursor, tail=tail)
    return EventStream(run_events(services, hubs, view))


@router.get("/live", response_class=EventStream)
async def live(services: ServicesDep, hubs: HubsDep, caller: Reader) -> EventStream:
    """What changes of your runs and bills, as events, for lists and the bell."""
    return EventStream(user_events(services, hubs, caller.user_id))


@router.get("/runs/{run}/logs.txt", response_class=StreamingResponse)
async def text(
    run: str, services: ServicesDep, caller: Reader, rank: Rank = None
) -> StreamingResponse:
    """The log up to now as a text file; of a run of several ranks each line says whose it is."""
    async with services.database.begin() as tx:
        await services.training.check_rank(tx, caller.user_id, RunId(run), rank)
        found = await services.training.run(tx, caller.user_id, RunId(run))
    named = rank is None and found.launch == "gang" and found.devices > 1
    name = run if rank is None else f"{run}-rank{rank}"
    return StreamingResponse(
        log_text(services, RunId(run), rank, named=named),
        media_type="text/plain; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="{name}.txt"',
            "X-Content-Type-Options": "nosniff",
        },
    )


@router.get("/runs/{run}/logs/part")
async def part(
    run: str,
    services: ServicesDep,
    caller: Reader,
    after: Cursor = None,
    before: Cursor = None,
    rank: Rank = None,
    lines: Annotated[int, Query(ge=1, le=MOST_LINES)] = 500,
) -> LogParts:
    """About so many lines behind ``after``, or before ``before``; the last ones without either."""
    if after is not None and before is not None:
        raise TwoDirections
    async with services.database.begin() as tx:
        await services.training.check_rank(tx, caller.user_id, RunId(run), rank)
        newest = await newest_segment(tx, RunId(run))
    if after is not None:
        span = Span(after, rank=rank)
    else:
        until = newest if before is None else max(0, before - 1)
        span = Span(until=until, rank=rank, backwards=True)
    return await log_parts(services, RunId(run), span, lines)


@router.get("/runs/{run}/logs/search")
async def search(
    run: str,
    services: ServicesDep,
    caller: Reader,
    q: Annotated[str, Query(min_length=1, max_length=200)],
    rank: Rank = None,
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> LogSearch:
    """Lines that hold ``q`` in any case, the oldest first; ``next`` says where to go on."""
    async with services.database.begin() as tx:
        await services.training.check_rank(tx, caller.user_id, RunId(run), rank)
    return await search_log(services, RunId(run), Span(after, rank=rank), q, limit)
