"""What holds for every request and answer: safe headers, a bounded body, no NUL in an address.

Pure ASGI, so that streams pass through untouched.
"""

from collections.abc import Mapping

from fastapi import Request
from fastapi.params import Form
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tesra.kit.errors import Invalid
from tesra.kit.saying import said

SECURITY_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'none'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cache-Control": "no-store",
}
_HTTPS_ONLY = (b"strict-transport-security", b"max-age=31536000")
_RAW = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
MAX_BODY_BYTES = 10 * 2**20  # of a body that is parsed; streams are bounded by their own routes


class AddressInvalid(Invalid):
    """An address can't hold the character NUL."""


class Guard:
    """Adds the security headers that an answer has not set itself, and bounds parsed bodies."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                set_already = {name for name, _ in message["headers"]}
                missing = (pair for pair in _RAW if pair[0] not in set_already)
                message["headers"] = [*message["headers"], *missing]
                if scope["scheme"] == "https":
                    message["headers"].append(_HTTPS_ONLY)
            await send(message)

        await self._app(scope, self._bounded(scope, receive), send_guarded)

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        received = 0

        async def receive_bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body_bytes and _parses_body(scope):
                limit_mib = self._max_body_bytes // 2**20
                raise HTTPException(413, said(f"The body is larger than {limit_mib} MiB."))
            return message

        return receive_bounded


async def refuse_nul(request: Request) -> None:
    """A dependency of every route: PostgreSQL's text holds any character but NUL."""
    if "\x00" in request.url.path or "%00" in request.url.query:
        raise AddressInvalid
    if "%00" in request.url.path or "\x00" in request.scope["path"]:
        raise AddressInvalid


def _parses_body(scope: Scope) -> bool:
    """Whether this route's body is read into memory and parsed before its handler is called.

    Other routes read the stream themselves; forms are spooled to disk.
    """
    route = scope.get("route")
    if not isinstance(route, APIRoute) or route.body_field is None:
        return False
    return not isinstance(route.body_field.field_info, Form)
