"""Everybody on the network, as operators see them: role, what they owe, and help for a lost phone."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import Path, Query, Response

from tesra.billing.pricing import parse_price
from tesra.kit.errors import Invalid, TesraError
from tesra.kit.ids import UserId
from tesra.kit.money import format_cny
from tesra.web import operating
from tesra.web.pages import PageAsk, encode_cursor, page_of
from tesra.web.problems import status_of
from tesra.web.ui.forms import Posted
from tesra.web.ui.pages.account import event_words
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import OperatorVisit, Visit

router = PageRouter()

PAGE = 50
MOST_NOTE = 500
EVENTS_SHOWN = 20
UserPath = Annotated[str, Path(max_length=64)]


class NoteMissing(Invalid):
    """Say why in a note of at most 500 characters: it stays in the account's log."""


@router.get("/operator/users")
async def users(
    visit: OperatorVisit, ask: PageAsk, q: Annotated[str, Query(max_length=64)] = ""
) -> Response:
    """All users, or those whose name has the text somewhere."""
    services, text = visit.services, q.strip()
    async with services.database.begin() as tx:
        found = await services.identity.users(tx, after=ask.after, limit=PAGE + 1, search=text)
        page = page_of(found, PAGE)
        credits_of = await services.billing.credits(tx, [user.id for user in page.items])
    following = {"cursor": encode_cursor(page.items[-1].id), "q": text} if page.next else {}
    return visit.page(
        "operator/users.html",
        users=page.items,
        credits=credits_of,
        q=text,
        next=f"/operator/users?{urlencode(following)}" if following else None,
        first="/operator/users?" + urlencode({"q": text}) if ask.after else None,
    )


@router.get("/operator/users/{user_id}")
async def user(user_id: UserPath, visit: OperatorVisit) -> Response:
    return await _user(visit, user_id)


@router.post("/operator/users/{user_id}/limit")
async def set_limit(user_id: UserPath, visit: OperatorVisit, form: Posted) -> Response:
    """How much the user's runs may come to owe; left open, what the network has for all."""
    services = visit.services
    try:
        micros = parse_price(form["limit"]) if form["limit"] else None
        async with services.database.begin() as tx:
            known = await services.identity.user(tx, UserId(user_id))
            holds = await services.billing.set_exposure_limit(tx, known.id, micros)
    except TesraError as error:
        return await _user(visit, user_id, limit=form["limit"], error=error)
    said = visit.say("The limit is %(limit)s now.", limit=visit.language.cny(holds))
    return visit.redirect(f"/operator/users/{user_id}", flash=said)


@router.post("/operator/users/{user_id}/second-factor-off")
async def second_factor_off(user_id: UserPath, visit: OperatorVisit, form: Posted) -> Response:
    """For who lost the phone and the recovery codes; the note says how that was made sure."""
    services, note = visit.services, form["note"]
    try:
        if not note or len(note) > MOST_NOTE:
            raise NoteMissing
        async with services.database.begin() as tx:
            known = await services.identity.user(tx, UserId(user_id))
            await services.factors.turn_off_for(tx, visit.member, known, note=note)
    except TesraError as error:
        return await _user(visit, user_id, note=note, error=error)
    said = visit.say("The second factor of %(user)s is off.", user=known.name)
    return visit.redirect(f"/operator/users/{user_id}", flash=said)


async def _user(
    visit: Visit,
    user_id: str,
    *,
    limit: str | None = None,
    note: str = "",
    error: TesraError | None = None,
) -> Response:
    services = visit.services
    stand = await operating.stand_of(services, UserId(user_id))
    async with services.database.begin() as tx:
        events = await services.account.events(tx, stand.user.id, limit=EVENTS_SHOWN)
        wallet = await services.billing.wallet(tx, stand.user.id)
    return visit.page(
        "operator/user.html",
        status=status_of(error) if error else 200,
        error=visit.words(error) if error else None,
        stand=stand,
        wallet=wallet,
        limit=format_cny(stand.credit.limit_micros) if limit is None else limit,
        note=note,
        events=[(event, event_words(visit, event.kind)) for event in events],
    )
