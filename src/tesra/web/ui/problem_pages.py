"""An error as a page, for a browser that asked for one; everything else gets the problem document."""

import logging
from json import dumps, loads
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError

from tesra.kit.errors import TesraError
from tesra.web.headers import SECURITY_HEADERS
from tesra.web.ui.language import Language
from tesra.web.ui.scripts import is_script
from tesra.web.ui.visit import SignInNeeded, Visit, sign_in_url, spoken_to, visit_of
from tesra.web.ui.wording import WayOut, _, error_words, in_words, way_out

MOST_FIELDS = 3  # are told at once

_log = logging.getLogger("tesra.web")
_TITLES = {
    401: _("Sign in first"),
    402: _("Something is to be paid first"),
    403: _("Not allowed"),
    404: _("Not found"),
    405: _("Not possible"),
    409: _("Not possible now"),
    413: _("Too large"),
    422: _("Not valid"),
    429: _("Too often"),
    503: _("Not available right now"),
}
_FAULT = _("An error on our side")


async def page_of(request: Request, error: Exception, document: Response) -> Response | None:
    """The page, or None where the document is what the caller can read.

    A script of a page shows the document's words to a person, so it gets them in their language.
    """
    if is_script(request):
        return for_script(request, error, document)
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


def for_script(request: Request, error: Exception, document: Response) -> Response:
    """The document in the language of who sees the page."""
    problem, spoken = loads(bytes(document.body)), spoken_to(request)
    problem["detail"], found = _told(spoken, error, problem)
    problem["way_out"] = found.text
    headers = {name: value for name, value in document.headers.items() if name != "content-length"}
    text = dumps(problem, ensure_ascii=False)
    return Response(text.encode(), document.status_code, headers=headers)


def _render(visit: Visit, error: Exception, document: Response) -> Response:
    problem = loads(bytes(document.body))
    detail, found = _told(visit.language, error, problem)
    return visit.page(
        "base/problem.html",
        status=document.status_code,
        title=visit.say(_title(document.status_code)),
        detail=detail,
        way_out=found,
        code=problem["code"],
        needs_sign_in=isinstance(error, SignInNeeded),
        sign_in=sign_in_url(visit.here),
    )


def _told(spoken: Language, error: Exception, problem: dict[str, Any]) -> tuple[str, WayOut]:
    """What happened and the way out, in the reader's language."""
    if isinstance(error, TesraError):
        return error_words(spoken, error), way_out(spoken, error)
    if isinstance(error, RequestValidationError):
        parts = [
            f"{place}: {in_words(spoken, words)}" for place, words in problem["fields"].items()
        ]
        return "\n".join(parts[:MOST_FIELDS]), WayOut()
    return in_words(spoken, problem["detail"]), WayOut(
        problem["way_out"] and in_words(spoken, problem["way_out"])
    )


def _title(status: int) -> str:
    return _TITLES.get(status, _TITLES[422] if status < 500 else _FAULT)


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "") or (
        request.headers.get("hx-request") == "true"
    )
