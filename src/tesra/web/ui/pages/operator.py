"""The operator's desk: the network's map and sums, the queue, storage, alarms, background jobs."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Path, Query, Response

from tesra.db import job_board
from tesra.drive.peers.errors import OnlyCopies
from tesra.kit.errors import TesraError
from tesra.web import operating
from tesra.web.pages import MAX_DIGITS, PageAsk, page_of
from tesra.web.problems import status_of
from tesra.web.routes import storage as storage_routes
from tesra.web.ui.forms import Posted
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import OperatorVisit, Visit
from tesra.wire.storage import RevokeRequest

router = PageRouter()

PAGE = 50
ALARMS_SHOWN = 5
PeerName = Annotated[str, Path(max_length=64)]
JobNumber = Annotated[int, Path(ge=1, lt=10**MAX_DIGITS)]


@router.get("/operator")
async def overview(visit: OperatorVisit) -> Response:
    """Everything at one look; the map goes on by itself."""
    services = visit.services
    async with services.database.begin() as tx:
        alarms = await services.care.alarms(
            tx, None, before=None, limit=ALARMS_SHOWN + 1, everything=False
        )
    return visit.page(
        "operator/overview.html",
        totals=await operating.totals(services),
        alarms=[alarm for alarm in alarms if alarm.state == "open"],
        **await _map(visit),
    )


@router.get("/operator/map")
async def network_map(visit: OperatorVisit) -> Response:
    """The map alone, for a page that is open."""
    return visit.page("operator/map.html", **await _map(visit))


@router.get("/operator/queue")
async def queue(visit: OperatorVisit) -> Response:
    """Who waits, why, and what decides whose turn it is."""
    found, names = await operating.board(visit.services)
    return visit.page("operator/queue.html", board=found, names=names)


@router.get("/operator/storage")
async def storage(visit: OperatorVisit) -> Response:
    """Who keeps the copies."""
    return await _storage(visit)


@router.post("/operator/storage/survey")
async def survey(visit: OperatorVisit, _form: Posted) -> Response:
    """What a collection of garbage would find; changes nothing."""
    return await _storage(visit, garbage=await visit.services.collector.survey())


@router.post("/operator/storage/peers/{peer}/drain")
async def drain(peer: PeerName, visit: OperatorVisit, form: Posted) -> Response:
    """Empty a peer, or stop doing so."""
    services, undo = visit.services, form.flag("undo")
    try:
        async with services.database.begin() as tx:
            found = await services.care.drain(tx, peer, draining=not undo)
        await services.care.repair()
    except TesraError as error:
        return await _storage(visit, error=error)
    if undo:
        said = visit.say("%(peer)s is not emptied any more.", peer=found.name)
    else:
        said = visit.say("%(peer)s is emptied: its copies go to others first.", peer=found.name)
    return visit.redirect("/operator/storage", flash=said)


@router.post("/operator/storage/peers/{peer}/revoke")
async def revoke(peer: PeerName, visit: OperatorVisit, form: Posted) -> Response:
    """Shut a peer out at once, or let it in again; what only it has is asked about once more."""
    wanted = RevokeRequest(force=form.flag("force"), undo=form.flag("undo"))
    try:
        found = await storage_routes.revoke(peer, wanted, visit.services, visit.member)
    except TesraError as error:
        return await _storage(
            visit, error=error, only=peer if isinstance(error, OnlyCopies) else None
        )
    if wanted.undo:
        said = visit.say("%(peer)s may join again: it comes back by itself.", peer=found.name)
    else:
        said = visit.say("%(peer)s is shut out: its copies do not count any more.", peer=found.name)
    return visit.redirect("/operator/storage", flash=said)


@router.get("/operator/alarms")
async def alarms(
    visit: OperatorVisit, ask: PageAsk, everything: Annotated[bool, Query(alias="all")] = False
) -> Response:
    services = visit.services
    async with services.database.begin() as tx:
        found = await services.care.alarms(
            tx, None, before=ask.after, limit=PAGE + 1, everything=everything
        )
    page = page_of(found, PAGE)
    return visit.page(
        "operator/alarms.html",
        alarms=page.items,
        next=page.next,
        after=ask.after,
        everything=everything,
    )


@router.post("/operator/alarms/{alarm}/acknowledge")
async def acknowledge(
    alarm: Annotated[str, Path(pattern=r"^alm_[0-9a-z]{26}$")], visit: OperatorVisit, _form: Posted
) -> Response:
    async with visit.services.database.begin() as tx:
        await visit.services.alarms.acknowledge(tx, alarm, by=visit.member.name)
    return visit.redirect("/operator/alarms", flash=visit.say("Acknowledged."))


@router.get("/operator/jobs")
async def jobs(visit: OperatorVisit, ask: PageAsk) -> Response:
    return await _jobs(visit, ask.number_after or None)


@router.post("/operator/jobs/{job}/retry")
async def retry(job: JobNumber, visit: OperatorVisit, _form: Posted) -> Response:
    try:
        async with visit.services.database.begin() as tx:
            await job_board.retry(tx, job)
    except TesraError as error:
        return await _jobs(visit, None, error=error)
    return visit.redirect("/operator/jobs", flash=visit.say("It is done again."))


async def _map(visit: Visit) -> Mapping[str, Any]:
    services = visit.services
    async with services.database.begin() as tx:
        peers = await services.care.peers(tx)
    return {"machines": await operating.machines(services), "peers": peers}


async def _storage(
    visit: Visit,
    *,
    garbage: Any = None,
    error: TesraError | None = None,
    only: str | None = None,
) -> Response:
    """``only``: a peer that has the only copy of something, and was to be shut out."""
    services = visit.services
    async with services.database.begin() as tx:
        peers = await services.care.peers(tx)
    return visit.page(
        "operator/storage.html",
        status=status_of(error) if error else 200,
        peers=peers,
        audits=await services.care.audit_stand(None),
        garbage=garbage,
        only=next((one for one in peers if only in (one.id, one.name)), None),
        error=visit.words(error) if error else None,
    )


async def _jobs(visit: Visit, before: int | None, *, error: TesraError | None = None) -> Response:
    async with visit.services.database.begin() as tx:
        counts = await job_board.counts(tx)
        page = page_of(await job_board.failed(tx, before=before, limit=PAGE + 1), PAGE)
    return visit.page(
        "operator/jobs.html",
        status=status_of(error) if error else 200,
        counts=counts,
        failed=page.items,
        next=page.next,
        after=before,
        error=visit.words(error) if error else None,
    )
