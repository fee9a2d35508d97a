"""What a storage peer says and asks: docs/spec/peer-protocol.md."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from tesra.drive.peers.placement import Peer
from tesra.kit.errors import Unauthenticated
from tesra.kit.ids import PeerId
from tesra.web.context import ServicesDep
from tesra.web.ranges import ranged
from tesra.wire.peer import PeerEnrolled, PeerEnrolment, PeerFacts, PeerOrders

_bearer = HTTPBearer(auto_error=False, scheme_name="peer token")

OPERATOR = "operator"  # whose peers these are, until providers enrol their own


class PeerTokenUnknown(Unauthenticated):
    """This token does not let a storage peer in."""


async def _admit(
    services: ServicesDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> None:
    token = credentials.credentials if credentials is not None else ""
    known = services.peer_credentials.admits(token) or services.sites.site_of(token) is not None
    if not known:
        raise PeerTokenUnknown(way_out="Start the peer with the token that the operator gave out.")


router = APIRouter(prefix="/peer/v1", tags=["peer"], dependencies=[Depends(_admit)])

PeerStep = Annotated[str, Path(pattern=r"^peer_[0-9a-z]{26}$")]
PackStep = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


@router.post("/enrol")
async def enrol(request: PeerEnrolment, services: ServicesDep) -> PeerEnrolled:
    """A peer has started: where it is, what it holds; it is certified for three days."""
    signed = services.authority.sign_peer(request.peer, request.request)
    peer = Peer(
        id=PeerId(request.peer),
        owner=OPERATOR,
        machine=request.machine,
        host=request.host,
        port=request.port,
        capacity_bytes=request.capacity_bytes,
        gateway=request.gateway,
        name=request.name,
        site=request.site,
    )
    async with services.database.begin() as tx:
        await services.peers.enrol(tx, peer, holds=request.holds, authority=signed.mark)
    return PeerEnrolled(
        certificate=signed.certificate,
        authority=signed.authority,
        renew_after_s=signed.renew_after_s,
    )


@router.get("/peers/{peer}/orders")
async def orders(
    peer: PeerStep,
    services: ServicesDep,
    after: Annotated[str, Query(max_length=64)] = "",
    wait_s: Annotated[float, Query(ge=0, le=60)] = 15.0,
) -> PeerOrders:
    """All that is wanted of the peer, as soon as it differs from version ``after``."""
    with services.listener.subscribe(f"peer:{peer}") as changes:
        for last in (False, True):
            async with services.database.begin() as tx:
                mark = services.authority.mark
                found = await services.peers.orders(tx, PeerId(peer), authority=mark)
            if last or found.version != after:
                break
            await changes.wait(wait_s)
    return found


@router.get("/peers/{peer}/packs/{pack}", response_class=StreamingResponse)
async def pack(
    peer: PeerStep, pack: PackStep, request: Request, services: ServicesDep
) -> StreamingResponse:
    """A pack that this peer has been told to bring from here: ciphertext."""
    async with services.database.begin() as tx:
        size = await services.peers.size_for(tx, PeerId(peer), pack)
    return ranged(request, size, partial(services.drive.read_pack, pack), etag=pack)


@router.post("/peers/{peer}/facts", status_code=204)
async def facts(peer: PeerStep, request: PeerFacts, services: ServicesDep) -> None:
    """What is so at the peer now."""
    async with services.database.begin() as tx:
        await services.peers.take(tx, PeerId(peer), request.facts)
