"""Your account: who you are, the password, language and colours, what happened to its security."""

from fastapi import Response

from tesra.identity.account_events import EventKind
from tesra.kit.errors import TesraError
from tesra.web.problems import status_of
from tesra.web.proving import origin_of, proven
from tesra.web.ui.forms import Posted
from tesra.web.ui.language import known_tag
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import LANGUAGE_COOKIE, THEME_COOKIE, THEMES, Member, Visit, Visitor

router = PageRouter()

EVENTS_SHOWN = 10


@router.get("/account")
async def account_page(visit: Member) -> Response:
    return await _page(visit)


@router.post("/account/password")
async def change_password(visit: Visitor, form: Posted) -> Response:
    """The new password counts and all other sessions end."""
    services, caller = visit.services, visit.writer
    try:
        new_hash = await services.identity.prepare_password(form.raw("new_password"))
        async with proven(
            services,
            caller,
            origin_of(visit.request),
            password=form.raw("old_password"),
            code=form["code"] or None,
        ) as tx:
            ended = await services.account.change_password(tx, caller, new_hash=new_hash)
    except TesraError as error:
        return await _page(visit, error=error)
    said = visit.language.say_many(
        "The password is changed; %(num)s other session has ended.",
        "The password is changed; %(num)s other sessions have ended.",
        ended,
    )
    return visit.redirect("/account", flash=said)


@router.post("/account/preferences")
async def change_preferences(visit: Visitor, form: Posted) -> Response:
    """Language (of the browser, when left open) and colours, here and in every other browser."""
    tag = known_tag(form["locale"]) if form["locale"] else None
    theme = form["theme"] if form["theme"] in THEMES else "auto"
    async with visit.services.database.begin() as tx:
        await visit.services.account.change_preferences(
            tx, visit.writer.user_id, {"locale": tag, "theme": theme}
        )
    visit.remember(LANGUAGE_COOKIE, tag or "", max_age_s=None if tag else 0)
    visit.remember(THEME_COOKIE, theme)
    return visit.redirect("/account")


async def _page(visit: Visit, *, error: TesraError | None = None) -> Response:
    services, caller = visit.services, visit.member
    async with services.database.begin() as tx:
        user = await services.identity.user(tx, caller.user_id)
        factor = await services.factors.state(tx, caller.user_id)
        preferences = await services.account.preferences(tx, caller.user_id)
        events = await services.account.events(tx, caller.user_id, limit=EVENTS_SHOWN)
        standing = await services.billing.credits(tx, [caller.user_id])
    return visit.page(
        "account/overview.html",
        status=status_of(error) if error else 200,
        error=visit.words(error) if error else None,
        way_out=visit.way_out(error) if error else None,
        user=user,
        factor=factor,
        preferences=preferences,
        events=[(event, event_words(visit, event.kind)) for event in events],
        credit=standing.get(caller.user_id),
    )


def event_words(visit: Visit, kind: EventKind) -> str:
    """What happened, in the visitor's language."""
    said = {
        EventKind.FACTOR_ON: visit.say("Second factor turned on"),
        EventKind.FACTOR_OFF: visit.say("Second factor turned off"),
        EventKind.FACTOR_OFF_BY_OPERATOR: visit.say("Second factor turned off by an operator"),
        EventKind.CODES_RENEWED: visit.say("New recovery codes made"),
        EventKind.CODE_USED: visit.say("Recovery code used to sign in"),
        EventKind.PASSWORD_CHANGED: visit.say("Password changed"),
    }
    return said[kind]
