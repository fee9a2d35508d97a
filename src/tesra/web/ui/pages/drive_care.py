"""How well the drive is kept, how full it is, and the drives that no page can show."""

from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import Query, Response

from tesra.storage.editing import parse_path, show_path
from tesra.web.ui.forms import Posted
from tesra.web.ui.pages.drive import PathAsked
from tesra.web.ui.pages.drive_words import crumbs_of, folder_url, shown_name
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import Member

FILES = 100
PRIVATE_SHOWN = 200
_WORSE = frozenset({"degraded", "offline", "locked"})
router = PageRouter()


@router.get("/drive/room")
async def room(visit: Member) -> Response:
    """How much of the free room is used, and by what."""
    services, owner = visit.services, visit.member.user_id
    async with services.database.begin() as tx:
        quota = await services.drive.quota(tx, owner)
    return visit.page("drive/room.html", quota=quota)


@router.get("/drive/health")
async def health(
    visit: Member,
    path: PathAsked = "/",
    show: Literal["all", "worse", "locked"] = "all",
    after: Annotated[str | None, Query(max_length=4096)] = None,
) -> Response:
    """Copies, machines and the last proof: of everything below a path, and of each file."""
    parts = parse_path(path)
    states = {"all": None, "worse": _WORSE, "locked": frozenset({"locked"})}[show]
    services, owner = visit.services, visit.member.user_id
    found = await services.health.of_path(owner, path, after=after, limit=FILES, states=states)
    locked = (
        await services.health.of_path(owner, path, limit=FILES, states=frozenset({"locked"}))
        if found.state == "locked" and show != "locked"
        else None
    )
    async with services.database.begin() as tx:
        peers = await services.care.peers(tx)
    return visit.page(
        "drive/health.html",
        health=found,
        files=[
            (one, shown_name(one.path), folder_url(parse_path(one.path))) for one in found.files
        ],
        locked=[shown_name(one.path) for one in locked.files] if locked else [],
        where=show_path(parts),
        crumbs=crumbs_of(parts),
        back=folder_url(parts),
        show=show,
        after=after,
        online=sum(peer.state == "online" for peer in peers),
        peers=len(peers),
        machines=len({peer.machine for peer in peers}),
    )


@router.post("/drive/audit")
async def audit(visit: Member, form: Posted) -> Response:
    """All holders of the visitor's data are asked to prove it now."""
    services = visit.services
    async with services.database.begin() as tx:
        stand = await services.care.audit_now(tx, visit.member.user_id)
    said = visit.language.say_many(
        "%(num)s copy is asked to prove itself. Look again in a minute.",
        "%(num)s copies are asked to prove themselves. Look again in a minute.",
        stand.asked,
    )
    return visit.redirect(f"/drive/health?path={quote(form.raw('path'))}", flash=said)


@router.get("/drive/private")
async def private(visit: Member) -> Response:
    """What private drives are, and how they are used: not here."""
    services = visit.services
    async with services.database.begin() as tx:
        found = await services.private.drives(
            tx, visit.member.user_id, after=None, limit=PRIVATE_SHOWN
        )
    return visit.page("drive/private.html", drives=[drive for drive, *_ in found])
