"""Where you are told of what happens to your runs."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from tesra.notices.model import CodeWrong
from tesra.web.auth import Reader, Writer
from tesra.web.context import ServicesDep
from tesra.web.idempotency import IdempotencyKey, once
from tesra.web.pages import PageAsk, page_of
from tesra.wire.common import Page
from tesra.wire.notices import (
    Channel,
    ChannelRequest,
    ConfirmRequest,
    Notice,
    ReadRequest,
    Unread,
)

router = APIRouter(prefix="/api/v1/notices/channels", tags=["notices"])
inbox = APIRouter(prefix="/api/v1/notices", tags=["notices"])

ChannelPath = Annotated[str, Path(max_length=64)]


@router.get("")
async def channels(services: ServicesDep, caller: Reader) -> Page[Channel]:
    """Your mailboxes and webhooks, all on one page."""
    async with services.database.begin() as tx:
        return Page(items=await services.notices.channels(tx, caller.user_id))


@router.post("", status_code=201)
async def add(
    request: ChannelRequest, services: ServicesDep, caller: Writer, key: IdempotencyKey = None
) -> Channel:
    """A mailbox, which gets a code, or a webhook, whose secret is shown this once.

    One that is there already gets these events and this language. 409 when this network sends no
    e-mail, 422 for an address that can't be used.
    """
    return await once(
        services,
        caller,
        key,
        request,
        lambda tx: services.notices.add(tx, caller.user_id, request),
    )


@router.post("/confirm")
async def confirm(request: ConfirmRequest, services: ServicesDep, caller: Writer) -> Channel:
    """Give back the code that came by mail; 422 for a wrong one, of which five end it."""
    async with services.database.begin() as tx:
        found = await services.notices.confirm(tx, caller.user_id, request.code)
    if found is None:  # said only now: the wrong code had to be counted
        raise CodeWrong(way_out="`tesra notify email ADDRESS` sends a new one.")
    return found


@router.post("/{channel}/test", status_code=202)
async def test(channel: ChannelPath, services: ServicesDep, caller: Writer) -> Channel:
    """Send a notice there that says only that it comes."""
    async with services.database.begin() as tx:
        return await services.notices.test(tx, caller.user_id, channel)


@router.delete("/{channel}", status_code=204)
async def remove(channel: ChannelPath, services: ServicesDep, caller: Writer) -> Response:
    """Tell nothing more there."""
    async with services.database.begin() as tx:
        await services.notices.remove(tx, caller.user_id, channel)
    return Response(status_code=204)


@inbox.get("")
async def notices(services: ServicesDep, caller: Reader, ask: PageAsk) -> Page[Notice]:
    """What happened in the last 90 days, the newest first."""
    async with services.database.begin() as tx:
        found = await services.notices.inbox.page(
            tx, caller.user_id, before=ask.after, limit=ask.limit + 1
        )
    return page_of(found, ask.limit)


@inbox.get("/unread")
async def unread(services: ServicesDep, caller: Reader) -> Unread:
    """For a bell: how many were not seen; 100 stands for that many or more."""
    async with services.database.begin() as tx:
        return Unread(unread=await services.notices.inbox.unread(tx, caller.user_id))


@inbox.post("/read")
async def mark_read(request: ReadRequest, services: ServicesDep, caller: Writer) -> Unread:
    """They were seen: all, or those up to one of them."""
    async with services.database.begin() as tx:
        await services.notices.inbox.mark_read(tx, caller.user_id, until=request.until)
        return Unread(unread=await services.notices.inbox.unread(tx, caller.user_id))
