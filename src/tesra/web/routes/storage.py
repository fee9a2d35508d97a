"""Storage peers, the health of what they keep, and alarms, over HTTP."""

from fastapi import APIRouter

from tesra.web.auth import Reader
from tesra.web.context import ServicesDep
from tesra.wire.common import Page
from tesra.wire.storage import StoragePeer

router = APIRouter(prefix="/api/v1", tags=["storage"])


@router.get("/peers")
async def peers(services: ServicesDep, caller: Reader) -> Page[StoragePeer]:  # noqa: ARG001 - signed in
    """The storage peers that have joined, with what each holds."""
    async with services.database.begin() as tx:
        return Page(items=await services.care.peers(tx))
