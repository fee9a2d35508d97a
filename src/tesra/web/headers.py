"""What holds for every request and answer: safe headers, a bounded body, an address that is text.

Pure ASGI, so that streams pass through untouched.
"""

from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

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
    """An address is UTF-8, without the character NUL."""


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


async def refuse_no_text(request: Request) -> None:
    """A dependency of every route: PostgreSQL's text holds any character but NUL, and bytes that are
    none would be read as one and the same."""
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    query: bytes = request.scope["query_string"]
    if b"%" not in raw and b"%" not in query and b"\0" not in raw:
        return
    if "%00" in request.url.path or "\x00" in request.scope["path"] or b"%00" in query:
        raise AddressInvalid
    try:
        unquote_to_bytes(raw).decode()
        unquote_to_bytes(query).decode()
    except UnicodeDecodeError as error:
        raise AddressInvalid from error


def _parses_body(scope: Scope) -> bool:
    """Whether this route's body is read into memory and parsed before its handler is called.

    Other routes read the stream themselves; forms are spooled to disk.
    """
    route = scope.get("route")
    if not isinstance(route, APIRoute) or route.body_field is None:
        return False
    return not isinstance(route.body_field.field_info, Form)
