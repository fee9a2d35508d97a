"""One request of a browser: who it is, in which language, and the answers that a page gives.

``Visitor`` is anybody, ``Member`` has signed in, ``OperatorVisit`` operates the network.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from tesra.identity import permissions
from tesra.identity.model import Principal, Role
from tesra.kit.errors import TesraError, Unauthenticated
from tesra.kit.ids import new_id
from tesra.web.context import Services, ServicesDep
from tesra.web.session import (
    VISIT_COOKIE,
    csrf_of,
    new_visit,
    session_of,
    set_cookie,
)
from tesra.web.ui.language import TAGS, Language, accepted_tag, known_tag, language
from tesra.web.ui.render import render
from tesra.web.ui.wording import WayOut, error_words, way_out

LANGUAGE_COOKIE = "tesra_lang"
THEME_COOKIE = "tesra_theme"
FLASH_COOKIE = "tesra_flash"
THEMES = ("auto", "light", "dark")
YEAR_S = 365 * 86_400
PAGE_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "font-src 'self'; connect-src 'self'; media-src 'self' blob:; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Vary": "Cookie, Accept-Language",
}


class SignInNeeded(Unauthenticated):
    """Sign in to see this page."""


@dataclass
class Visit:
    """What a page needs to know of a request, and how it answers."""

    request: Request
    services: Services
    language: Language
    theme: str
    who: Principal | None
    secret: str  # what the forms' proof is derived from
    fresh: bool  # the visit's cookie has to be set
    flash: Mapping[str, str] | None
    _cookies: dict[str, tuple[str, int | None]] = field(default_factory=dict)

    @property
    def member(self) -> Principal:
        """Who has signed in; raises ``SignInNeeded``."""
        self.require_member()
        assert self.who is not None
        return self.who

    @property
    def writer(self) -> Principal:
        """A member whose token may change things; raises ``SignInNeeded``, ``ScopeMissing``."""
        permissions.require(self.member, permissions.WRITE)
        return self.member

    def require_member(self) -> None:
        """Raises ``SignInNeeded`` for anybody else."""
        if self.who is None:
            raise SignInNeeded

    @property
    def is_htmx(self) -> bool:
        return self.request.headers.get("hx-request") == "true"

    def say(self, text: str, **values: object) -> str:
        """A text in the visitor's language."""
        return self.language.say(text, **values)

    def words(self, error: TesraError) -> str:
        """What an error says, in the visitor's language as far as the catalogue goes."""
        return error_words(self.language, error)

    def way_out(self, error: TesraError) -> WayOut:
        """What can be done about an error, in a browser."""
        return way_out(self.language, error)

    def page(self, template: str, /, *, status: int = 200, **context: Any) -> Response:
        """A page, or a part of one, from a template."""
        body = render(
            template,
            self.language,
            visit=self,
            who=self.who,
            csrf=csrf_of(self.secret),
            once=new_id("key"),
            path=self.request.url.path,
            here=self.here,
            lang=self.language.tag,
            languages=TAGS,
            is_operator=self.who is not None and self.who.role is Role.OPERATOR,
            **context,
        )
        answer = HTMLResponse(body, status, headers=dict(PAGE_HEADERS))
        if self.flash is not None:
            answer.delete_cookie(FLASH_COOKIE, path="/")
        return self._with_cookies(answer)

    def redirect(self, target: str, *, flash: str | None = None, kind: str = "success") -> Response:
        """See another page (303); ``flash``, already in the visitor's language, is told there once."""
        if flash is not None:
            text = json.dumps({"text": flash[:500], "kind": kind}).encode()
            self.remember(FLASH_COOKIE, urlsafe_b64encode(text).decode(), max_age_s=60)
        if self.is_htmx:
            answer = Response(status_code=200, headers={"HX-Redirect": target})
        else:
            answer = RedirectResponse(target, 303)
        answer.headers["Vary"] = PAGE_HEADERS["Vary"]
        return self._with_cookies(answer)

    def remember(self, name: str, value: str, *, max_age_s: int | None = YEAR_S) -> None:
        """A cookie that goes with the answer."""
        self._cookies[name] = (value, max_age_s)

    @property
    def here(self) -> str:
        """The address of this page, to come back to."""
        if self.request.method not in {"GET", "HEAD"}:
            return came_from(self.request)
        path, query = quote(self.request.scope["path"]), self.request.url.query
        return path + (f"?{query}" if query else "")

    def _with_cookies(self, answer: Response) -> Response:
        if self.fresh:
            set_cookie(self.request, answer, VISIT_COOKIE, self.secret, max_age_s=None)
        for name, (value, max_age_s) in self._cookies.items():
            set_cookie(self.request, answer, name, value, max_age_s=max_age_s)
        return answer


def safe_next(target: str | None, *, default: str = "/") -> str:
    """A path of this site, or ``default``: never another site's address."""
    if not target or not target.startswith("/") or target.startswith(("//", "/\\")):
        return default
    if any(character in target for character in "\\\r\n\t\x00"):
        return default
    parts = urlsplit(target)
    return default if parts.scheme or parts.netloc else target


def sign_in_url(here: str) -> str:
    return "/sign-in" if here == "/" else f"/sign-in?next={quote(here, safe='')}"


def came_from(request: Request) -> str:
    """The page of this site that a form was sent from, else the home page."""
    referer = urlsplit(request.headers.get("referer", ""))
    if referer.netloc != request.url.netloc:
        return "/"
    return safe_next(referer.path + (f"?{referer.query}" if referer.query else ""))


def spoken_to(request: Request) -> Language:
    """The language of who sends this: the one that was chosen, else as the browser says."""
    return language(_tag(request))


async def visit_of(request: Request, services: Services) -> Visit:
    """The visit of a request; one whose session has ended is anybody's."""
    token, who = session_of(request), None
    if token is not None:
        try:
            async with services.database.begin() as tx:
                who = await services.identity.authenticate(tx, token)
        except Unauthenticated:
            token = None
    visit = request.cookies.get(VISIT_COOKIE)
    return Visit(
        request=request,
        services=services,
        language=spoken_to(request),
        theme=_theme(request),
        who=who,
        secret=token or visit or new_visit(),
        fresh=token is None and not visit,
        flash=_flash(request),
    )


async def _visit(request: Request, services: ServicesDep) -> Visit:
    return await visit_of(request, services)


async def _member(visit: Annotated[Visit, Depends(_visit)]) -> Visit:
    visit.require_member()
    return visit


async def _operator(visit: Annotated[Visit, Depends(_visit)]) -> Visit:
    permissions.require(visit.member, permissions.OPERATE)
    return visit


Visitor = Annotated[Visit, Depends(_visit)]
Member = Annotated[Visit, Depends(_member)]
OperatorVisit = Annotated[Visit, Depends(_operator)]


def _tag(request: Request) -> str:
    chosen = known_tag(request.cookies.get(LANGUAGE_COOKIE))
    return chosen or accepted_tag(request.headers.get("accept-language"))


def _theme(request: Request) -> str:
    theme = request.cookies.get(THEME_COOKIE, "auto")
    return theme if theme in THEMES else "auto"


def _flash(request: Request) -> Mapping[str, str] | None:
    text = request.cookies.get(FLASH_COOKIE)
    if not text:
        return None
    try:
        said = json.loads(urlsafe_b64decode(text.encode()))
        return {"text": str(said["text"]), "kind": str(said["kind"])}
    except (ValueError, KeyError, TypeError):
        return {"text": "", "kind": "none"}
