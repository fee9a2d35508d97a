"""Share links: their owner makes and withdraws them, their visitors download without an account."""

import base64
import binascii
from typing import Annotated, Any
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import RedirectResponse, StreamingResponse

from tesra.drive.shares.model import SharePasswordNeeded, SharePasswordWrong, StoredShare
from tesra.drive.shares.service import SharedFolder
from tesra.kit.saying import said
from tesra.web.auth import Reader, Writer
from tesra.web.context import Services, ServicesDep
from tesra.web.idempotency import IdempotencyKey, once
from tesra.web.pages import PageAsk, page_of
from tesra.web.problems import problem
from tesra.web.ranges import attachment, begins_at, known, ranged
from tesra.web.routes.files import ArchiveKind, archived
from tesra.web.ui.pages.shared import page_wanted, password_known, shared_page
from tesra.wire.common import Page
from tesra.wire.shares import NewShare, Share, ShareRequest

MAX_FORM_BYTES = 4096
CHALLENGE = {"WWW-Authenticate": 'Basic realm="shared with you", charset="UTF-8"'}

Secret = Annotated[str, PathParameter(max_length=128)]
Below = Annotated[
    str | None, Query(max_length=4096, description="A file or folder within the shared folder")
]
Password = Annotated[str | None, Header(alias="Tesra-Share-Password", max_length=1024)]

router = APIRouter(prefix="/api/v1/drive/shares", tags=["drive"])
links = APIRouter(tags=["share links"])


@router.post("", status_code=201)
async def create(
    wanted: ShareRequest,
    request: Request,
    services: ServicesDep,
    caller: Writer,
    key: IdempotencyKey = None,
) -> NewShare:
    """A link to a path of your drive. Its address is told this once: the server keeps a hash."""
    prepared = await services.shares.prepare(caller.user_id, wanted)
    base_url = str(request.base_url)
    # A quick hash of what identifies the call is kept: a password must not be in it.
    without = wanted.model_copy(update={"password": "given" if wanted.password else None})
    return await once(
        services,
        caller,
        key,
        without,
        lambda tx: services.shares.create(tx, caller.user_id, prepared, base_url=base_url),
    )


@router.get("")
async def shares(services: ServicesDep, caller: Reader, ask: PageAsk) -> Page[Share]:
    """Your links, the newest first; those that ended stay for 30 days."""
    async with services.database.begin() as tx:
        found = await services.shares.shares(
            tx, caller.user_id, before=ask.after, limit=ask.limit + 1
        )
    return page_of(found, ask.limit)


@router.delete("/{share}", status_code=204)
async def unshare(share: str, services: ServicesDep, caller: Writer) -> None:
    """The link opens nothing any more."""
    async with services.database.begin() as tx:
        await services.shares.revoke(tx, caller.user_id, share)


@links.get("/s/{secret}", response_class=StreamingResponse)
async def download(
    secret: Secret,
    request: Request,
    services: ServicesDep,
    path: Below = None,
    kind: ArchiveKind = "zip",
    password: Password = None,
) -> Response:
    """The shared file or a range of it; a shared folder as one archive. Needs no account.

    A browser that opens the address is shown a page about it; its buttons add ``download=1``.
    """
    if page_wanted(request):
        return await shared_page(request, services, secret, path)
    given = _readable(password) if password is not None else _basic(request)
    return await _download(services, request, secret, given, path=path, kind=kind)


@links.post(
    "/s/{secret}",
    response_class=StreamingResponse,
    openapi_extra={
        "requestBody": {
            "content": {
                "application/x-www-form-urlencoded": {
                    "schema": {"type": "object", "properties": {"password": {"type": "string"}}}
                }
            }
        }
    },
)
async def download_with_form(
    secret: Secret,
    request: Request,
    services: ServicesDep,
    path: Below = None,
    kind: ArchiveKind = "zip",
) -> Response:
    """The same, with the password as the field ``password`` of a form."""
    given = await _form_password(request)
    return await _download(services, request, secret, given, path=path, kind=kind)


async def _download(
    services: Services,
    request: Request,
    secret: str,
    password: str | None,
    *,
    path: str | None,
    kind: Any,
) -> Response:
    try:
        share = await services.shares.find(secret)
        if not password_known(request, services, share):
            share = await services.shares.admit(secret, password)
    except (SharePasswordNeeded, SharePasswordWrong) as error:
        if "download" in request.query_params and "text/html" in request.headers.get("accept", ""):
            return RedirectResponse(f"/s/{quote(secret, safe='')}", 303)  # the page asks for it
        return problem(401, error.detail, code=error.code, way_out=error.way_out, headers=CHALLENGE)
    found = await services.shares.open(share, path)
    if isinstance(found, SharedFolder):
        await _count(services, request, share, what="", begins=True)
        return archived(found.name, found.reader, found.root, kind)
    if not known(request, found.etag):
        first = begins_at(request, found.size_bytes, found.etag)
        await _count(services, request, share, what=found.etag, begins=first == 0)
    headers = attachment(found.name)
    return ranged(request, found.size_bytes, found.read, etag=found.etag, headers=headers)


async def _count(
    services: Services, request: Request, share: StoredShare, *, what: str, begins: bool
) -> None:
    address = request.client.host if request.client else "unknown"
    await services.shares.count(share, address=address, what=what, begins=begins)


def _basic(request: Request) -> str | None:
    """The password of Basic authentication; any name goes with it."""
    scheme, _, sent = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        plain = base64.b64decode(sent, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return plain.partition(":")[2]


def _readable(header: str) -> str:
    """A header's text: bytes that are UTF-8 are taken as such."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


async def _form_password(request: Request) -> str | None:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM_BYTES:
            raise HTTPException(413, said(f"The form is larger than {MAX_FORM_BYTES} bytes."))
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    return fields["password"][0] if "password" in fields else None
