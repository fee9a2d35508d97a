"""What every page has: language, theme, the state of the session."""

from fastapi import Response
from fastapi.responses import JSONResponse

from tesra.identity import permissions
from tesra.web.session import csrf_of
from tesra.web.ui.forms import Posted
from tesra.web.ui.language import known_tag
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import (
    LANGUAGE_COOKIE,
    THEME_COOKIE,
    THEMES,
    Visit,
    Visitor,
    safe_next,
)

router = PageRouter()


@router.post("/language")
async def choose_language(visit: Visitor, form: Posted) -> Response:
    """The same page in another language; what was typed there is kept by the browser."""
    tag = known_tag(form["to"])
    if tag is not None:
        visit.remember(LANGUAGE_COOKIE, tag)
        await _keep(visit, locale=tag)
    return visit.redirect(safe_next(form["next"]))


@router.post("/theme")
async def choose_theme(visit: Visitor, form: Posted) -> Response:
    if form["to"] in THEMES:
        visit.remember(THEME_COOKIE, form["to"])
        await _keep(visit, theme=form["to"])
    return visit.redirect(safe_next(form["next"]))


@router.get("/session.json", response_class=JSONResponse)
async def session(visit: Visitor) -> Response:
    """For an open page: whether its session still holds, and the proof for its calls."""
    return JSONResponse(
        {
            "signed_in": visit.who is not None,
            "name": visit.who.name if visit.who else None,
            "csrf": csrf_of(visit.secret) if visit.who else None,
        }
    )


async def _keep(visit: Visit, **changes: str) -> None:
    """A choice of somebody who has signed in goes along to their other browsers."""
    if visit.who is not None and permissions.WRITE in visit.who.scopes:
        async with visit.services.database.begin() as tx:
            await visit.services.account.change_preferences(tx, visit.who.user_id, changes)
