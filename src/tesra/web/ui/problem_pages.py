"""An error as a page, for a browser that asked for one; everything else gets the problem document."""

import logging
from http import HTTPStatus
from json import dumps, loads

from fastapi import Request, Response
from sqlalchemy.exc import SQLAlchemyError

from tesra.kit.errors import TesraError
from tesra.web.headers import SECURITY_HEADERS
from tesra.web.session import CSRF_HEADER
from tesra.web.ui.visit import SignInNeeded, Visit, sign_in_url, spoken_to, visit_of
from tesra.web.ui.wording import WayOut, error_words, way_out

_log = logging.getLogger("tesra.web")


async def page_of(request: Request, error: Exception, document: Response) -> Response | None:
    """The page, or None where the document is what the caller can read.

    A script of a page shows the document's words to a person, so it gets them in their language.
    """
    if request.url.path.startswith("/api/") and CSRF_HEADER in request.headers:
        return _for_script(request, error, document)
    if request.url.path.startswith("/api/") or not _wants_page(request):
        return None
    try:
        visit = await visit_of(request, request.app.state.services)
        if isinstance(error, SignInNeeded) and request.method in {"GET", "HEAD"}:
            return visit.redirect(sign_in_url(visit.here))
        page = _render(visit, error, document)
    except (TesraError, SQLAlchemyError):  # the database may be what is gone: tell the document
        _log.warning("an error's page could not be made", exc_info=True)
        return None
    for name in ("retry-after", "allow"):
        if name in document.headers:
            page.headers[name] = document.headers[name]
    for name, value in SECURITY_HEADERS.items():  # errors of the outermost layer pass no middleware
        page.headers.setdefault(name, value)
    return page


def _for_script(request: Request, error: Exception, document: Response) -> Response | None:
    if not isinstance(error, TesraError):
        return None
    problem, spoken = loads(bytes(document.body)), spoken_to(request)
    problem["detail"] = error_words(spoken, error)
    problem["way_out"] = way_out(spoken, error).text
    headers = {name: value for name, value in document.headers.items() if name != "content-length"}
    text = dumps(problem, ensure_ascii=False)
    return Response(text.encode(), document.status_code, headers=headers)


def _render(visit: Visit, error: Exception, document: Response) -> Response:
    problem = loads(bytes(document.body))
    return visit.page(
        "base/problem.html",
        status=document.status_code,
        title=visit.say(HTTPStatus(document.status_code).phrase),
        detail=visit.words(error)
        if isinstance(error, TesraError)
        else visit.say(problem["detail"]),
        way_out=visit.way_out(error)
        if isinstance(error, TesraError)
        else WayOut(problem["way_out"] and visit.say(problem["way_out"])),
        code=problem["code"],
        needs_sign_in=isinstance(error, SignInNeeded),
        sign_in=sign_in_url(visit.here),
    )


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "") or (
        request.headers.get("hx-request") == "true"
    )
