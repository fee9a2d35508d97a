"""Storage peers, the health of what they keep, and alarms, over HTTP."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query

from tesra.identity.model import Principal, Role
from tesra.kit.ids import UserId
from tesra.security.alarms import Alarm
from tesra.web.auth import Operator, Reader, Writer
from tesra.web.context import ServicesDep
from tesra.web.pages import PageAsk, page_of
from tesra.wire.common import Page
from tesra.wire.storage import (
    AlarmReport,
    AuditStand,
    Collection,
    CollectRequest,
    DrainRequest,
    DriveHealth,
    Replicas,
    RevokeRequest,
    StoragePeer,
    Undone,
)

PeerName = Annotated[str, Path(min_length=1, max_length=64)]
AlarmStep = Annotated[str, Path(max_length=64)]
PathQuery = Annotated[str, Query(max_length=4096, description="Such as `/models/best.pt`")]

router = APIRouter(prefix="/api/v1", tags=["storage"])


@router.get("/peers")
async def peers(services: ServicesDep, caller: Reader) -> Page[StoragePeer]:  # noqa: ARG001 - signed in
    """The storage peers that have joined, with what each holds."""
    async with services.database.begin() as tx:
        return Page(items=await services.care.peers(tx))


@router.post("/peers/{peer}/drain")
async def drain(
    peer: PeerName,
    request: DrainRequest,
    services: ServicesDep,
    caller: Operator,  # noqa: ARG001 - an operator
) -> StoragePeer:
    """Empty a peer: its copies go to others first (operator)."""
    async with services.database.begin() as tx:
        found = await services.care.drain(tx, peer, draining=not request.undo)
    await services.care.repair()
    return found


@router.post("/peers/{peer}/revoke")
async def revoke(
    peer: PeerName,
    request: RevokeRequest,
    services: ServicesDep,
    caller: Operator,  # noqa: ARG001 - an operator
) -> StoragePeer:
    """Shut a peer out at once: all others get certificates of another authority (operator)."""
    async with services.database.begin() as tx:
        found = await services.care.revoke(tx, peer, force=request.force, undo=request.undo)
    if not request.undo:
        services.authority.replace()
    async with services.database.begin() as tx:
        await services.peers.wake_all(tx)
    await services.care.repair()
    return found


@router.get("/drive/replicas")
async def replicas(services: ServicesDep, caller: Reader) -> Replicas:
    """How many copies there shall be of what your drive holds."""
    async with services.database.begin() as tx:
        return Replicas(copies=(await services.drive.drive_of(tx, caller.user_id)).copies)


@router.put("/drive/replicas")
async def set_replicas(request: Replicas, services: ServicesDep, caller: Writer) -> Replicas:
    """Choose it; what is missing is made, and what is too much dropped, by the next repairs."""
    async with services.database.begin() as tx:
        await services.drive.set_copies(tx, caller.user_id, request.copies)
    await services.care.repair()
    return request


@router.get("/drive/health")
async def health(
    services: ServicesDep,
    caller: Reader,
    path: PathQuery = "/",
    after: Annotated[str | None, Query(max_length=4096)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> DriveHealth:
    """How many good copies there are of what stands at a path, on how many machines, and when
    that was last proven."""
    return await services.health.of_path(caller.user_id, path, after=after, limit=limit)


@router.post("/drive/audits")
async def audit_now(services: ServicesDep, caller: Writer) -> AuditStand:
    """Ask every holder of your data (for an operator: of all) to prove it, and to read it through."""
    async with services.database.begin() as tx:
        return await services.care.audit_now(tx, _whose(caller))


@router.get("/drive/audits")
async def audits(services: ServicesDep, caller: Reader) -> AuditStand:
    """How many copies owe an answer."""
    return await services.care.audit_stand(_whose(caller))


@router.post("/drive/collections")
async def collect(request: CollectRequest, services: ServicesDep, caller: Writer) -> Collection:
    """Mark what nothing needs any more, and delete what was marked a day ago or longer."""
    keep = timedelta(days=request.keep_days) if request.keep_days is not None else None
    return await services.collector.collect(caller.user_id, keep=keep, dry_run=request.dry_run)


@router.delete("/drive/collections")
async def undo_collection(services: ServicesDep, caller: Writer) -> Undone:
    """Take all marks back: nothing of it is deleted."""
    async with services.database.begin() as tx:
        return Undone(unmarked=await services.collector.undo(tx, caller.user_id))


@router.get("/alarms")
async def alarms(
    services: ServicesDep,
    caller: Reader,
    ask: PageAsk,
    everything: Annotated[bool, Query(description="Those that were seen to, too")] = False,
) -> Page[AlarmReport]:
    """What is wrong with storage, the newest first: what concerns your data, or all (operator)."""
    async with services.database.begin() as tx:
        found = await services.care.alarms(
            tx, _whose(caller), before=ask.after, limit=ask.limit + 1, everything=everything
        )
    return page_of([_report(one) for one in found], ask.limit)


@router.post("/alarms/{alarm}/acknowledge")
async def acknowledge(alarm: AlarmStep, services: ServicesDep, caller: Operator) -> AlarmReport:
    """Say that you have seen it (operator)."""
    async with services.database.begin() as tx:
        return _report(await services.alarms.acknowledge(tx, alarm, by=caller.name))


def _whose(caller: Principal) -> UserId | None:
    """Whose data a question is about: None, everybody's, for an operator."""
    return None if caller.role is Role.OPERATOR else caller.user_id


def _report(alarm: Alarm) -> AlarmReport:
    return AlarmReport(
        id=alarm.id,
        kind=alarm.kind,
        subject=alarm.subject,
        words=alarm.words,
        state=alarm.state,
        times=alarm.times,
        raised_at=alarm.raised_at,
        last_at=alarm.last_at,
        acknowledged_by=alarm.acknowledged_by,
    )
