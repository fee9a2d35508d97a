"""Parameters of a run, changed while it goes on."""

from typing import Annotated

from fastapi import APIRouter, Path

from tesra.kit.ids import RunId
from tesra.web.auth import Reader, Writer
from tesra.web.context import ServicesDep
from tesra.web.idempotency import IdempotencyKey, once
from tesra.wire.tuning import RollbackRequest, TuneRequest, Tuning

router = APIRouter(prefix="/api/v1/runs/{run}/tuning", tags=["training"])

Change = Annotated[int, Path(ge=1, le=2**31 - 1)]


@router.get("")
async def tuning(run: str, services: ServicesDep, caller: Reader) -> Tuning:
    """What can be changed, to what, and the timeline of what was asked for."""
    async with services.database.begin() as tx:
        return await services.tuning.show(tx, caller.user_id, RunId(run))


@router.post("", status_code=201)
async def tune(
    run: str,
    request: TuneRequest,
    services: ServicesDep,
    caller: Writer,
    key: IdempotencyKey = None,
) -> Tuning:
    """Ask for new values, which all ranks take at the same step.

    404 for a parameter that was not declared, 422 for a value that it can't have, 409 once the
    run has ended.
    """
    return await once(
        services,
        caller,
        key,
        request,
        lambda tx: services.tuning.tune(tx, caller.user_id, RunId(run), request.values),
    )


@router.post("/rollback")
async def rollback(
    run: str,
    request: RollbackRequest,
    services: ServicesDep,
    caller: Writer,
    key: IdempotencyKey = None,
) -> Tuning:
    """Begin again from the checkpoint before a change; 409 when there is none."""
    return await once(
        services,
        caller,
        key,
        request,
        lambda tx: services.tuning.rollback(tx, caller.user_id, RunId(run), request.change),
    )


@router.delete("/{change}")
async def withdraw(run: str, change: Change, services: ServicesDep, caller: Writer) -> Tuning:
    """Take back a change that waits; 409 when it does not, or not any more."""
    async with services.database.begin() as tx:
        return await services.tuning.withdraw(tx, caller.user_id, RunId(run), change)
