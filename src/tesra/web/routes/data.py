"""What an attempt's node asks of the storage peer beside it."""

from typing import Annotated

from fastapi import APIRouter, Depends

from tesra.drive.model import PackUnknown
from tesra.drive.peers.errands import Errands
from tesra.kit.errors import NotFound
from tesra.kit.ids import PeerId
from tesra.web.context import ServicesDep
from tesra.web.routes.site import AttemptTransfer, authorise_attempt
from tesra.wire.data import PacksComing, PacksWanted

router = APIRouter(prefix="/site/v1", tags=["site"])


@router.post("/attempts/{attempt}/drive/packs/bring")
async def bring(
    request: PacksWanted,
    services: ServicesDep,
    rights: Annotated[AttemptTransfer, Depends(authorise_attempt)],
) -> PacksComing:
    """Packs that the attempt may read go to the peer over the swarm, from all that have them."""
    wanted = list(dict.fromkeys(request.packs))
    for pack in wanted:
        try:
            await services.drive.pack_size(pack, owner=rights.owner, readable=rights.readable)
        except NotFound as error:
            raise PackUnknown from error
    async with services.database.begin() as tx:
        coming = await Errands().bring(tx, PeerId(request.peer), wanted)
    return PacksComing(coming=coming)
