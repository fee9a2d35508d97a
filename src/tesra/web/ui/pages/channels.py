"""Where you are told of what happens: mailboxes and webhooks, as the notices' service keeps them."""

from fastapi import Response
from pydantic import ValidationError

from tesra.kit.errors import Invalid, TesraError
from tesra.notices.model import CodeWrong
from tesra.web.idempotency import CallKey, once
from tesra.web.problems import status_of
from tesra.web.ui.forms import Form, Posted
from tesra.web.ui.notice_words import event_names
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import Member, Visit, Visitor
from tesra.wire.notices import ALL_EVENTS, Channel, ChannelRequest

router = PageRouter()

PLACE = "/account/notices"


class ChannelIncomplete(Invalid):
    """Give an address and at least one kind of event."""


@router.get(PLACE)
async def channels_page(visit: Member) -> Response:
    return await _page(visit)


@router.post(PLACE)
async def add(visit: Visitor, form: Posted) -> Response:
    """A mailbox gets a code by mail; a webhook's secret stands on the answer, this once."""
    caller = visit.writer
    try:
        wanted = _wanted(visit, form)
        key = CallKey.of(form["once"], f"POST {PLACE}") if form["once"] else None
        made = await once(
            visit.services,
            caller,
            key,
            wanted,
            lambda tx: visit.services.notices.add(tx, caller.user_id, wanted),
        )
    except TesraError as error:
        return await _page(visit, error=error, form=form)
    if made.kind == "webhook" and made.secret:
        return await _page(visit, made=made)
    if made.confirmed:
        return visit.redirect(PLACE, flash=visit.say("Saved."))
    return visit.redirect(
        PLACE, flash=visit.say("A code is on its way to %(to)s.", to=made.address)
    )


@router.post(PLACE + "/confirm")
async def confirm(visit: Visitor, form: Posted) -> Response:
    caller = visit.writer
    async with visit.services.database.begin() as tx:
        found = await visit.services.notices.confirm(tx, caller.user_id, form["code"][:16])
    if found is None:
        return await _page(visit, error=CodeWrong())
    return visit.redirect(PLACE, flash=visit.say("%(to)s is confirmed.", to=found.address))


@router.post(PLACE + "/{channel}/test")
async def test(channel: str, visit: Visitor, form: Posted) -> Response:  # noqa: ARG001
    async with visit.services.database.begin() as tx:
        found = await visit.services.notices.test(tx, visit.writer.user_id, channel)
    return visit.redirect(
        PLACE, flash=visit.say("A test notice is on its way to %(to)s.", to=found.address)
    )


@router.post(PLACE + "/{channel}/remove")
async def remove(channel: str, visit: Visitor, form: Posted) -> Response:  # noqa: ARG001
    async with visit.services.database.begin() as tx:
        await visit.services.notices.remove(tx, visit.writer.user_id, channel)
    return visit.redirect(PLACE, flash=visit.say("Nothing more is told there."))


async def _page(
    visit: Visit,
    *,
    made: Channel | None = None,
    error: TesraError | None = None,
    form: Form | None = None,
) -> Response:
    async with visit.services.database.begin() as tx:
        channels = await visit.services.notices.channels(tx, visit.member.user_id)
    return visit.page(
        "account/channels.html",
        status=status_of(error) if error else 200,
        error=visit.words(error) if error else None,
        way_out=visit.way_out(error) if error else None,
        channels=channels,
        made=made,
        names=event_names(visit.language),
        events=ALL_EVENTS if visit.member.role == "operator" else ALL_EVENTS[:-1],
        mails=visit.services.notices.mails,
        typed={
            "kind": form["kind"] if form else "",
            "address": form["address"] if form else "",
            "events": form.all("event") if form else list(ALL_EVENTS),
        },
    )


def _wanted(visit: Visit, form: Form) -> ChannelRequest:
    try:
        return ChannelRequest.model_validate(
            {
                "kind": form["kind"],
                "address": form["address"],
                "language": "zh" if visit.language.tag == "zh-CN" else "en",
                "events": form.all("event"),
            }
        )
    except ValidationError as error:
        raise ChannelIncomplete from error
