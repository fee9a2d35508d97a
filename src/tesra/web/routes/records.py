"""Training records as files, and the keys that check them."""

from fastapi import APIRouter

from tesra.kit.ids import RunId
from tesra.web.auth import Reader
from tesra.web.context import ServicesDep
from tesra.wire.record import PublicKeys, SignedRecord

router = APIRouter(prefix="/api/v1", tags=["training"])


@router.get("/runs/{run}/record")
async def record(run: str, services: ServicesDep, caller: Reader) -> SignedRecord:
    """All that is known of one of your runs, signed; `docs/RECORD.md` has the format."""
    return await services.records.record(caller.user_id, RunId(run))


@router.get("/keys")
async def keys(services: ServicesDep) -> PublicKeys:
    """The public keys of this network; anybody may ask."""
    return services.records.keys()
