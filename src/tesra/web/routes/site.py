"""What a site controller and its nodes say: docs/spec/site-protocol.md."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from tesra.kit.errors import Unauthenticated
from tesra.kit.ids import AttemptId, NodeId, RunId, SiteId, SnapshotId, UserId
from tesra.training.attempts import LEASE_S
from tesra.training.facts import output_purpose
from tesra.web.context import ServicesDep
from tesra.web.routes.drive import transfer_router
from tesra.wire.site import (
    Acknowledged,
    Assignments,
    EnrolDevice,
    Enrolled,
    Enrolment,
    EnrolNode,
    Messages,
    NodeEngines,
    Renewal,
    Renewed,
)

_bearer = HTTPBearer(auto_error=False, scheme_name="site token")


class SiteUnknown(Unauthenticated):
    """This site's credential is not known."""


async def _site(
    services: ServicesDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> SiteId:
    site = services.sites.site_of(credentials.credentials) if credentials else None
    if site is None:
        raise SiteUnknown(way_out="Start the node with the site token that the operator gave out.")
    return site


SiteCaller = Annotated[SiteId, Depends(_site)]

router = APIRouter(prefix="/site/v1", tags=["site"])


@router.post("/enrol")
async def enrol(request: Enrolment, services: ServicesDep, site: SiteCaller) -> Enrolled:
    """A controller has started: these are its machines now."""
    machines: list[dict[str, object]] = []
    cards: list[dict[str, object]] = []
    for node in request.nodes:
        machines.append(_machine(site, node))
        cards.extend(_card(site, node, device) for device in node.devices)
    async with services.database.begin() as tx:
        high_water = await services.compute.sites.enrol(
            tx, site, request.boot_id, machines=machines, cards=cards
        )
        await services.attempts.wake_dispatcher(tx)
    return Enrolled(site=site, high_water=high_water, lease_s=int(LEASE_S))


@router.put("/nodes/{node}/engines", status_code=204)
async def engines(node: str, request: NodeEngines, services: ServicesDep, site: SiteCaller) -> None:
    """What is warm on a node of this site now."""
    async with services.database.begin() as tx:
        await services.compute.sites.note_engines(
            tx, site, NodeId(node), engines=request.model_dump(mode="json")["engines"]
        )


@router.post("/messages")
async def messages(request: Messages, services: ServicesDep, site: SiteCaller) -> Acknowledged:
    """Facts, each applied exactly once, in order."""
    stale = await services.attempts.take(site, request.boot_id, request.messages)
    last = request.messages[-1].seq if request.messages else 0
    return Acknowledged(seq=last, stale=stale)


@router.post("/renew")
async def renew(request: Renewal, services: ServicesDep, site: SiteCaller) -> Renewed:
    """Extend leases; ``gone`` names the attempts that are not this site's any more."""
    held = [(AttemptId(ref.attempt), ref.fence) for ref in request.attempts]
    async with services.database.begin() as tx:
        renewed = await services.attempts.renew(tx, site, held)
    gone = [attempt for attempt, _ in held if attempt not in renewed]
    return Renewed(renewed=sorted(renewed), gone=gone)


@router.get("/assignments")
async def assignments(
    services: ServicesDep,
    site: SiteCaller,
    after: Annotated[int, Query(ge=-1, le=2**62)] = -1,
    wait_s: Annotated[float, Query(ge=0, le=60)] = 25.0,
) -> Assignments:
    """The whole truth for this site, as soon as its version differs from ``after``."""
    with services.listener.subscribe(f"site:{site}") as changes:
        for last in (False, True):
            async with services.database.begin() as tx:
                found = await services.attempts.assignments(tx, site)
            if last or found.version != after:
                break
            await changes.wait(wait_s)
    return found


@dataclass(frozen=True, slots=True)
class AttemptTransfer:
    """What an attempt's node may do with the drive: read what it begins with, write its own output."""

    owner: UserId
    purpose: str | None
    readable: frozenset[SnapshotId] | None


async def authorise_attempt(
    attempt: str,
    services: ServicesDep,
    site: SiteCaller,
    fence: Annotated[int, Header(alias="Tesra-Fence", ge=0, le=2**62)],
) -> AttemptTransfer:
    """The right of an attempt under its present fence."""
    async with services.database.begin() as tx:
        row = await services.attempts.held(tx, site, AttemptId(attempt), fence)
    return AttemptTransfer(
        owner=UserId(row.owner),
        purpose=output_purpose(RunId(row.run_id)),
        readable=frozenset(
            SnapshotId(snapshot)
            for snapshot in (
                row.snapshot_id,
                row.resume_snapshot,
                *(one["snapshot"] for one in row.data or ()),
            )
            if snapshot is not None
        ),
    )


router.include_router(transfer_router(authorise_attempt), prefix="/attempts/{attempt}/drive")


def _machine(site: SiteId, node: EnrolNode) -> dict[str, object]:
    return {
        "id": node.id,
        "site_id": site,
        "name": node.name,
        "address": node.address,
        "cores": node.cores,
        "memory_bytes": node.memory_bytes,
        "online": True,
        "engines": node.model_dump(mode="json")["engines"],
    }


def _card(site: SiteId, node: EnrolNode, device: EnrolDevice) -> dict[str, object]:
    return {
        "id": device.id,
        "site_id": site,
        "node_id": node.id,
        "index": device.index,
        "device_class": device.device_class,
        "name": device.name,
        "measured_micro_t": device.measured_micro_t,
        "online": True,
    }
