"""Runs: submit, look at, stop, follow the log."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from tesra.kit.ids import RunId
from tesra.training.model import RunFilter
from tesra.web.auth import Reader, Writer
from tesra.web.context import ServicesDep
from tesra.web.idempotency import IdempotencyKey, once
from tesra.web.log_stream import LogView, log_lines
from tesra.web.pages import PageAsk, page_of
from tesra.wire.common import Page
from tesra.wire.quotes import Quote, QuoteRequest
from tesra.wire.training import PriorityRequest, Run, RunEvent, RunLabels, RunRequest, RunState

router = APIRouter(prefix="/api/v1", tags=["training"])


@router.post("/runs", status_code=201)
async def submit(
    request: RunRequest, services: ServicesDep, caller: Writer, key: IdempotencyKey = None
) -> Run:
    """Queue a run. 402 while a bill is unpaid; 422 when engine, entry, output or devices can't be.

    An entry, engine, output or launch that is left out is read from the code; 422 with the
    ``candidates`` when more than one file could be the entry.
    """
    prepared = await services.training.check(caller.user_id, request)
    return await once(
        services,
        caller,
        key,
        request,
        lambda tx: services.training.submit(tx, caller.user_id, prepared),
    )


@router.get("/runs")
async def runs(
    services: ServicesDep,
    caller: Reader,
    ask: PageAsk,
    state: Annotated[list[RunState], Query()] = [],  # noqa: B006 - FastAPI copies it
    project: Annotated[str | None, Query(max_length=128)] = None,
    sweep: Annotated[str | None, Query(max_length=64)] = None,
    trials: bool = True,
    tag: Annotated[str | None, Query(max_length=64)] = None,
    text: Annotated[str | None, Query(max_length=128)] = None,
) -> Page[Run]:
    """Your runs, the newest first; those of a ``sweep``, or none of any with ``trials=false``.

    ``text``: in the id, the project's or the engine's name, the tags or the note.
    """
    async with services.database.begin() as tx:
        found = await services.training.runs(
            tx,
            caller.user_id,
            RunFilter(tuple(state), project, sweep, trials, tag, text),
            cursor=ask.after,
            limit=ask.limit + 1,
        )
    return page_of(found, ask.limit)


@router.get("/runs/{run}")
async def run(run: str, services: ServicesDep, caller: Reader) -> Run:
    """One of your runs, with a forecast while it runs."""
    async with services.database.begin() as tx:
        found = await services.training.run(tx, caller.user_id, RunId(run))
        forecast = await services.forecasts.of(tx, RunId(run))
    return found.model_copy(update={"forecast": forecast}) if forecast else found


@router.patch("/runs/{run}")
async def label(run: str, request: RunLabels, services: ServicesDep, caller: Writer) -> Run:
    """Tags and a note, to find a run again; what is left out stays as it is."""
    async with services.database.begin() as tx:
        return await services.training.label(tx, caller.user_id, RunId(run), request)


@router.post("/quotes")
async def quote(request: QuoteRequest, services: ServicesDep, caller: Reader) -> Quote:
    """What such a run would cost and when it could start; nothing is stored."""
    async with services.database.begin() as tx:
        return await services.quotes.quote(tx, caller.user_id, request)


@router.post("/runs/{run}/stop")
async def stop(run: str, services: ServicesDep, caller: Writer) -> Run:
    """Ask for the end; the output so far is kept. Harmless when it has ended."""
    async with services.database.begin() as tx:
        return await services.training.stop(tx, caller.user_id, RunId(run))


@router.put("/runs/{run}/priority")
async def prioritise(
    run: str, request: PriorityRequest, services: ServicesDep, caller: Writer
) -> Run:
    """Which of your queued runs go first; 409 when this one does not wait any more."""
    async with services.database.begin() as tx:
        return await services.training.prioritise(
            tx, caller.user_id, RunId(run), priority=int(request.priority)
        )


@router.get("/runs/{run}/events")
async def events(run: str, services: ServicesDep, caller: Reader, ask: PageAsk) -> Page[RunEvent]:
    """The timeline of a run, the oldest first."""
    async with services.database.begin() as tx:
        found = await services.training.events(
            tx, caller.user_id, RunId(run), after=ask.number_after, limit=ask.limit + 1
        )
    return page_of(found, ask.limit, id_of=lambda event: event.seq)


@router.get("/runs/{run}/logs", response_class=StreamingResponse)
async def logs(
    run: str,
    services: ServicesDep,
    caller: Reader,
    follow: bool = False,
    rank: Annotated[int | None, Query(ge=-1, le=100_000)] = None,
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
) -> StreamingResponse:
    """The log as NDJSON (``LogChunk`` a line) from cursor ``after`` on; ``follow`` until the run ends."""
    async with services.database.begin() as tx:
        await services.training.check_rank(tx, caller.user_id, RunId(run), rank)
    view = LogView(owner=caller.user_id, run=RunId(run), rank=rank, after=after, follow=follow)
    lines = log_lines(services, view)
    return StreamingResponse(lines, media_type="application/x-ndjson")
