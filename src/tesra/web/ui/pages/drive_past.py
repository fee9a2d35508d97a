"""What was: versions of a path, and the trash."""

from typing import Annotated

from fastapi import Query, Response

from tesra.kit.errors import TesraError
from tesra.storage.editing import parse_path, show_path
from tesra.web.pages import decode_cursor, encode_cursor
from tesra.web.ui.forms import Posted
from tesra.web.ui.pages.drive import Cursor, PathAsked
from tesra.web.ui.pages.drive_words import crumbs_of, folder_url, shown_name
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import Member

STAGES = 50
THROWN = 100
router = PageRouter()


@router.get("/drive/versions")
async def versions(
    visit: Member,
    path: PathAsked,
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
) -> Response:
    """The history of a path: what stood there, since when, and how to have it back."""
    parts = parse_path(path)
    found = await visit.services.browser.history(
        visit.member.user_id, path, before=before, limit=STAGES
    )
    return visit.page(
        "drive/versions.html",
        stages=found.stages,
        next=found.next,
        before=before,
        where=show_path(parts),
        crumbs=crumbs_of(parts),
        back=folder_url(parts if found.stages and found.stages[0].entry else parts[:-1]),
    )


@router.get("/drive/trash")
async def trash(visit: Member, cursor: Cursor = None) -> Response:
    """What was thrown away, the last first."""
    found = await visit.services.files.trash(
        visit.member.user_id, before=decode_cursor(cursor), limit=THROWN + 1
    )
    shown = found[:THROWN]
    more = len(found) > THROWN
    return visit.page(
        "drive/trash.html",
        thrown=[(one, shown_name(one.path)) for one in shown],
        next_url=f"/drive/trash?cursor={encode_cursor(shown[-1].id)}" if more else None,
        first_url="/drive/trash" if cursor else None,
    )


@router.post("/drive/trash/restore")
async def restore(visit: Member, form: Posted) -> Response:
    """Where it was, or beside what stands there by now."""
    try:
        await visit.services.files.restore_from_trash(visit.member.user_id, form["item"])
    except TesraError as error:
        return visit.redirect("/drive/trash", flash=visit.words(error), kind="danger")
    above = parse_path(form.raw("path"))[:-1]
    said = visit.say("%(name)s is back in its folder.", name=shown_name(form.raw("path")))
    return visit.redirect(folder_url(above), flash=said)


@router.post("/drive/trash/empty")
async def empty(visit: Member, form: Posted) -> Response:  # noqa: ARG001 - proves the request
    """Forgets what was thrown away."""
    count = await visit.services.files.empty_trash(visit.member.user_id)
    said = visit.language.say_many(
        "%(num)s item is gone from the trash.", "%(num)s items are gone from the trash.", count
    )
    return visit.redirect("/drive/trash", flash=said)
