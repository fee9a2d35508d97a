"""A browser's session: a cookie that holds a session token, and the proof that a request is meant.

The proof (CSRF token) is derived from the cookie's own secret, which no other site can read: it
comes back in a form's field ``csrf`` or in the header ``X-CSRF-Token``.
"""

import hashlib
import hmac
import secrets

from fastapi import Request, Response

from tesra.identity.service import SESSION_LIFETIME
from tesra.kit.errors import Forbidden

SESSION_COOKIE = "tesra_session"
VISIT_COOKIE = (
    "tesra_visit"  # of those who have not signed in, so that their forms have a proof too
)
CSRF_HEADER = "X-CSRF-Token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class RequestForged(Forbidden):
    """This request did not come from a page of this site, or the page is too old."""


def new_visit() -> str:
    """The secret of a visitor who has not signed in."""
    return secrets.token_hex(16)


def csrf_of(secret: str) -> str:
    """The proof that goes with a cookie's secret."""
    return hmac.new(secret.encode(), b"tesra csrf", hashlib.sha256).hexdigest()[:40]


def require_meant(secret: str | None, given: str | None) -> None:
    """Raises ``RequestForged`` unless ``given`` is the proof of ``secret``."""
    if not secret or not given or not hmac.compare_digest(csrf_of(secret), given):
        raise RequestForged(way_out="Reload the page and try again.")


def session_of(request: Request) -> str | None:
    """The session token that a browser sends, if any."""
    return request.cookies.get(SESSION_COOKIE) or None


def begin_session(request: Request, response: Response, token: str) -> None:
    """The browser keeps the token; no script can read it, no other site's request carries it along."""
    set_cookie(
        request, response, SESSION_COOKIE, token, max_age_s=int(SESSION_LIFETIME.total_seconds())
    )


def end_session(response: Response) -> None:
    response.delete_cookie(SESSION_COOKIE, path="/")


def set_cookie(
    request: Request,
    response: Response,
    name: str,
    value: str,
    *,
    max_age_s: int | None,
    path: str = "/",
) -> None:
    """A cookie for this site alone: HttpOnly, SameSite=Lax, Secure wherever the page is."""
    response.set_cookie(
        name,
        value,
        max_age=max_age_s,
        path=path,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
