"""Sweeps: begin, look at, stop, go on."""

from typing import Annotated

from fastapi import APIRouter, Path

from tesra.training.sweeps.model import SweepId
from tesra.web.auth import Reader, Writer
from tesra.web.context import ServicesDep
from tesra.web.idempotency import IdempotencyKey, once
from tesra.web.pages import PageAsk, page_of
from tesra.wire.common import Page
from tesra.wire.sweeps import Sweep, SweepMore, SweepRequest, Trial

router = APIRouter(prefix="/api/v1", tags=["training"])

SweepPath = Annotated[str, Path(max_length=64)]


@router.post("/sweeps", status_code=201)
async def begin(
    request: SweepRequest, services: ServicesDep, caller: Writer, key: IdempotencyKey = None
) -> Sweep:
    """Begin a sweep: many runs over a space of parameters, under one bill.

    402 while a bill is unpaid; 422 when its space, metric or run can't be.
    """
    checked = await services.sweeps.check(caller.user_id, request)
    return await once(
        services,
        caller,
        key,
        request,
        lambda tx: services.sweeps.create(tx, caller.user_id, checked),
    )


@router.get("/sweeps")
async def sweeps(services: ServicesDep, caller: Reader, ask: PageAsk) -> Page[Sweep]:
    """Your sweeps, the newest first."""
    async with services.database.begin() as tx:
        found = await services.sweeps.sweeps(
            tx, caller.user_id, cursor=ask.after, limit=ask.limit + 1
        )
    return page_of(found, ask.limit)


@router.get("/sweeps/{sweep}")
async def sweep(sweep: SweepPath, services: ServicesDep, caller: Reader) -> Sweep:
    """One of your sweeps, with its best trial."""
    async with services.database.begin() as tx:
        return await services.sweeps.sweep(tx, caller.user_id, SweepId(sweep))


@router.get("/sweeps/{sweep}/trials")
async def trials(
    sweep: SweepPath, services: ServicesDep, caller: Reader, ask: PageAsk
) -> Page[Trial]:
    """The trials of a sweep by number, each with its rank, value, use and cost."""
    async with services.database.begin() as tx:
        found = await services.sweeps.trials(
            tx, caller.user_id, SweepId(sweep), after=ask.number_after, limit=ask.limit + 1
        )
    return page_of(found, ask.limit, id_of=lambda trial: trial.number)


@router.post("/sweeps/{sweep}/stop")
async def stop(sweep: SweepPath, services: ServicesDep, caller: Writer) -> Sweep:
    """Stop all its trials; what they used is billed. Harmless when it has ended."""
    async with services.database.begin() as tx:
        return await services.sweeps.stop(tx, caller.user_id, SweepId(sweep))


@router.post("/sweeps/{sweep}/resume")
async def resume(
    sweep: SweepPath,
    more: SweepMore,
    services: ServicesDep,
    caller: Writer,
    key: IdempotencyKey = None,
) -> Sweep:
    """So many more trials, which learn from the others; after its end, on a bill of their own."""
    return await once(
        services,
        caller,
        key,
        more,
        lambda tx: services.sweeps.resume(tx, caller.user_id, SweepId(sweep), more),
    )
