"""Links that open a path of the drive to who has no account: made, seen, withdrawn."""

from datetime import timedelta

from fastapi import Response

from tesra.db.engine import Tx
from tesra.kit.errors import Invalid, TesraError
from tesra.storage.editing import parse_path, show_path
from tesra.storage.tree import Folder
from tesra.web.idempotency import CallKey, once
from tesra.web.pages import decode_cursor, encode_cursor
from tesra.web.problems import status_of
from tesra.web.ui.forms import Form, Posted
from tesra.web.ui.pages.drive import Cursor, PathAsked
from tesra.web.ui.pages.drive_words import crumbs_of, folder_url, shown_name
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import Member, Visit
from tesra.wire.shares import NewShare, ShareRequest

SHARES = 100
MAX_PASSWORD = 256
MAX_DOWNLOADS = 1_000_000_000
LIVES: dict[str, timedelta | None] = {  # as the form offers them
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "never": None,
}
router = PageRouter()


class DownloadsUnreadable(Invalid):
    """The number of downloads is a whole number from 1 on, or empty for any number."""


class PasswordTooLong(Invalid):
    """A link's password has at most 256 characters."""


@router.get("/drive/shares")
async def shares(visit: Member, cursor: Cursor = None) -> Response:
    """All links of the visitor, the newest first."""
    services, owner = visit.services, visit.member.user_id
    async with services.database.begin() as tx:
        found = await services.shares.shares(
            tx, owner, before=decode_cursor(cursor), limit=SHARES + 1
        )
    shown = found[:SHARES]
    more = len(found) > SHARES
    return visit.page(
        "drive/shares.html",
        shares=[(one, shown_name(one.path)) for one in shown],
        next_url=f"/drive/shares?cursor={encode_cursor(shown[-1].id)}" if more else None,
        first_url="/drive/shares" if cursor else None,
    )


@router.get("/drive/share")
async def share_page(visit: Member, path: PathAsked) -> Response:
    """Asks what the link may do."""
    return await _form_page(visit, path, Form({}))


@router.post("/drive/share")
async def share(visit: Member, form: Posted) -> Response:
    """The link, with its address: told on this page alone."""
    path = form.raw("path")
    try:
        wanted = _wanted(path, form)
        made = await _made(visit, wanted, form["once"])
    except TesraError as error:
        return await _form_page(visit, path, form, error=error)
    parts = parse_path(path)
    return visit.page(
        "drive/shared_now.html",
        share=made,
        where=show_path(parts),
        shown=shown_name(parts[-1]) if parts else "/",
        crumbs=crumbs_of(parts),
        back=folder_url(parts[:-1]),
    )


@router.post("/drive/shares/revoke")
async def revoke(visit: Member, form: Posted) -> Response:
    """The link opens nothing any more."""
    services = visit.services
    async with services.database.begin() as tx:
        await services.shares.revoke(tx, visit.member.user_id, form["share"])
    return visit.redirect("/drive/shares", flash=visit.say("The link opens nothing any more."))


async def _made(visit: Visit, wanted: ShareRequest, key: str) -> NewShare:
    services, member = visit.services, visit.member
    prepared = await services.shares.prepare(member.user_id, wanted)
    base_url = str(visit.request.base_url)
    without = wanted.model_copy(update={"password": "given" if wanted.password else None})

    async def act(tx: Tx) -> NewShare:
        return await services.shares.create(tx, member.user_id, prepared, base_url=base_url)

    call = CallKey.of(key[:128], "POST /drive/share") if key else None
    return await once(services, member, call, without, act)


def _wanted(path: str, form: Form) -> ShareRequest:
    life = LIVES.get(form["life"], LIVES["7d"])
    downloads, password = form["downloads"], form.raw("password")
    if len(password) > MAX_PASSWORD:
        raise PasswordTooLong
    if downloads and not (
        downloads.isascii()
        and downloads.isdigit()
        and len(downloads) < 11
        and 1 <= int(downloads) <= MAX_DOWNLOADS
    ):
        raise DownloadsUnreadable
    return ShareRequest(
        path=path,
        live=form["shows"] == "live",
        expires_s=round(life.total_seconds()) if life else None,
        password=password or None,
        max_downloads=int(downloads) if downloads else None,
    )


async def _form_page(
    visit: Visit, path: str, form: Form, *, error: TesraError | None = None
) -> Response:
    found = await visit.services.files.find(visit.member.user_id, path)
    parts = found.path
    return visit.page(
        "drive/share.html",
        status=status_of(error) if error else 200,
        where=show_path(parts),
        shown=shown_name(parts[-1]) if parts else "/",
        is_folder=isinstance(found.entry, Folder),
        crumbs=crumbs_of(parts),
        back=folder_url(parts[:-1]),
        error=visit.words(error) if error else None,
        life=form["life"] or "7d",
        downloads=form["downloads"],
        shows=form["shows"] or "now",
    )
