"""What happened lately: the inbox behind the bell."""

from fastapi import Response

from tesra.web.ui.forms import Posted
from tesra.web.ui.notice_words import event_names
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import Member, Visitor

router = PageRouter()

SHOWN = 50


@router.get("/notices")
async def notices(visit: Member, before: str = "") -> Response:
    async with visit.services.database.begin() as tx:
        found = await visit.services.notices.inbox.page(
            tx, visit.member.user_id, before=before[:64] or None, limit=SHOWN + 1
        )
    return visit.page(
        "notices/inbox.html",
        notices=found[:SHOWN],
        more=found[SHOWN - 1].id if len(found) > SHOWN else None,
        first=not before,
        names=event_names(visit.language),
    )


@router.post("/notices/read")
async def mark_read(visit: Visitor, form: Posted) -> Response:  # noqa: ARG001 - proves the request
    async with visit.services.database.begin() as tx:
        await visit.services.notices.inbox.mark_read(tx, visit.writer.user_id)
    return visit.redirect("/notices")
