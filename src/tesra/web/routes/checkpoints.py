"""Checkpoints of runs: look at them, go on from one."""

from fastapi import APIRouter

from tesra.kit.ids import RunId
from tesra.web.auth import Reader, Writer
from tesra.web.context import ServicesDep
from tesra.web.idempotency import IdempotencyKey, once
from tesra.web.pages import PageAsk, page_of
from tesra.wire.checkpoints import Checkpoint, ResumeRequest
from tesra.wire.common import Page
from tesra.wire.training import Run

router = APIRouter(prefix="/api/v1", tags=["training"])


@router.get("/runs/{run}/checkpoints")
async def checkpoints(
    run: str, services: ServicesDep, caller: Reader, ask: PageAsk
) -> Page[Checkpoint]:
    """The stored checkpoints of a run, the newest first; each is a snapshot of your drive."""
    async with services.database.begin() as tx:
        await services.training.own(tx, caller.user_id, RunId(run))
        found = await services.checkpoints.of_run(
            tx, RunId(run), before=ask.number_after or None, limit=ask.limit + 1
        )
    return page_of(found, ask.limit, id_of=lambda one: one.number)


@router.post("/runs/{run}/resume", status_code=201)
async def resume(
    run: str,
    request: ResumeRequest,
    services: ServicesDep,
    caller: Writer,
    key: IdempotencyKey = None,
) -> Run:
    """A new run that goes on from a checkpoint of one that has ended; 404 without a checkpoint."""
    resumption = await services.resuming.check(caller.user_id, RunId(run), request)
    return await once(
        services,
        caller,
        key,
        request,
        lambda tx: services.resuming.submit(tx, caller.user_id, resumption),
    )
