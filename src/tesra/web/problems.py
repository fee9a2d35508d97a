"""Every error as RFC 9457 ``application/problem+json``; the only module that maps kinds to HTTP.

What a caller sent is never echoed: it may be a password. An unexpected error tells the caller
an id and nothing else; the log has the rest under that id.
"""

import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from tesra.kit import errors
from tesra.kit.saying import said
from tesra.web.headers import SECURITY_HEADERS
from tesra.wire.common import Problem

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5  # when the error itself names no time
MAX_REPORTED_FIELDS = 50
MAX_PATH_CHARACTERS = 200

_STATUS: tuple[tuple[type[errors.TesraError], int], ...] = (
    (errors.Gone, 410),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.Unauthenticated, 401),
    (errors.Forbidden, 403),
    (errors.Invalid, 422),
    (errors.Unavailable, 503),
    (errors.PaymentDue, 402),
    (errors.QuotaExceeded, 413),
    (errors.TooMany, 429),
)

_PHRASES = {460: "Checksum Mismatch"}  # of the tus protocol

_log = logging.getLogger("tesra.web")

Handler = Callable[[Request, Exception], Awaitable[Response]]
PageOf = Callable[[Request, Exception, Response], Awaitable[Response | None]]


def install(app: FastAPI, *, page_of: PageOf | None = None) -> None:
    """Makes every error of this API a problem document.

    ``page_of`` may answer with a page instead, for a request that a browser makes for one.
    """

    def add(kind: type[Exception], handler: Handler) -> None:
        async def handle(request: Request, error: Exception) -> Response:
            document = await handler(request, error)
            page = await page_of(request, error, document) if page_of else None
            return page or document

        app.add_exception_handler(kind, handle)

    add(errors.TesraError, _on_tesra_error)
    add(RequestValidationError, _on_validation_error)
    add(HTTPException, _on_http_exception)
    add(DataError, _on_refused_value)
    for gone in (OperationalError, InterfaceError, PoolTimeout):
        add(gone, _on_database_gone)
    add(Exception, _on_unexpected_error)


def status_of(error: errors.TesraError) -> int:
    """The HTTP status of an error's kind; 500 for one of no kind."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem(
    status: int,
    detail: str,
    *,
    code: str | None = None,
    way_out: str | None = None,
    fields: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem document; ``code`` is what a program tests, ``detail`` what a person reads."""
    phrase = _PHRASES.get(status) or HTTPStatus(status).phrase
    code = code or phrase.lower().replace(" ", "_")
    body = Problem(
        type=f"urn:tesra:problem:{code}",
        title=phrase,
        status=status,
        detail=detail,
        code=code,
        way_out=way_out,
        fields=dict(fields or {}),
    )
    text = json.dumps(_printable(body.model_dump()), ensure_ascii=False, default=str)
    return Response(text.encode(), status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


async def _on_tesra_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, errors.TesraError)
    return answer_of(error, status_of(error))


def answer_of(error: errors.TesraError, status: int) -> Response:
    """An error's problem document under this status."""
    if status == 500:
        _log.error("error of no kind: %r", error)
    headers: dict[str, str] = {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="tesra"'
    if status in {429, 503}:
        headers["Retry-After"] = str(error.fields.get("retry_after_s", RETRY_AFTER_S))
    return problem(
        status,
        error.detail,
        code=error.code,
        way_out=error.way_out,
        fields=error.fields,
        headers=headers,
    )


async def _on_validation_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    fields: dict[str, str] = {}
    for one in found[:MAX_REPORTED_FIELDS]:
        fields.setdefault(_path(one["loc"]), _message(one))
    detail = "; ".join(f"{path}: {message}" for path, message in list(fields.items())[:3])
    if len(fields) > 3:
        detail += f"; and {len(found) - 3} more"
    return problem(422, detail, code="invalid", fields=fields)


async def _on_http_exception(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    details = {
        400: said("The body of this request cannot be read."),
        404: said("There is nothing at this address."),
        405: said("This address does not know this method."),
    }
    detail = details.get(error.status_code) or str(error.detail)
    return problem(error.status_code, detail, headers=error.headers)


async def _on_refused_value(_: Request, error: Exception) -> Response:
    assert isinstance(error, DataError)
    _log.warning("the database refused a value: %s", type(error.orig).__name__)
    return problem(422, said("A value is out of range."), code="invalid")


async def _on_database_gone(_: Request, error: Exception) -> Response:
    _log.warning("the database did not answer: %s", error.__class__.__name__, exc_info=error)
    return problem(
        503,
        said("The database does not answer right now."),
        code="unavailable",
        way_out=said("Try again in a few seconds."),
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


async def _on_unexpected_error(request: Request, error: Exception) -> Response:
    error_id = secrets.token_hex(6)
    _log.error("error %s in %s %s", error_id, request.method, request.url.path, exc_info=error)
    # This answer is made outside all middleware: the headers have to be given here.
    return problem(
        500,
        said(f"Something went wrong on our side (error {error_id})."),
        code="unexpected",
        way_out=said("Try again; if it persists, tell the operator this error's id."),
        fields={"error_id": error_id},
        headers=SECURITY_HEADERS,
    )


def _path(location: Sequence[Any]) -> str:
    return ".".join(str(step) for step in location)[:MAX_PATH_CHARACTERS] or "body"


def _message(found: Mapping[str, Any]) -> str:
    if found["type"] == "json_invalid":
        return said("This is not valid JSON.")
    if found["type"] == "union_tag_invalid":  # pydantic's own words repeat what was sent
        return said(f"Expected one of {found['ctx']['expected_tags']}.")
    message = str(found["msg"]).removeprefix("Value error, ")
    return message[0].upper() + message[1:] if message else said("Not valid.")


def _printable(value: Any) -> Any:
    """The same without lone surrogates, which UTF-8 cannot carry (a field's name may have one)."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_printable(str(key)): _printable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_printable(item) for item in value]
    return value
