"""What a share link shows in a browser: a page, whose buttons download; nothing of it is counted.

A password is asked for once: a sealed cookie, for this link alone and for an hour, says that it
was right.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode

from fastapi import Request, Response

from tesra.crypto.aead import SealBroken
from tesra.drive.shares.model import (
    ShareEmpty,
    SharePasswordNeeded,
    SharePasswordWrong,
    ShareUnknown,
    ShareUsedUp,
    StoredShare,
    TooManyGuesses,
)
from tesra.drive.shares.service import SharedFile, SharedFolder
from tesra.kit.errors import Gone, NotFound, TesraError
from tesra.storage.editing import Parts, parse_path
from tesra.storage.tree import Entry, File, Folder
from tesra.web.context import Services
from tesra.web.headers import SECURITY_HEADERS
from tesra.web.pages import decode_cursor, encode_cursor
from tesra.web.problems import status_of
from tesra.web.session import set_cookie
from tesra.web.ui.forms import Posted
from tesra.web.ui.pages.drive_words import Row, shown_name
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import Visit, Visitor, visit_of

ROWS = 200
OPEN_FOR = timedelta(hours=1)
COOKIE = "tesra_share"
_CONTEXT = b"share password known"
router = PageRouter()


def page_wanted(request: Request) -> bool:
    """Whether a person opens the address in a browser, rather than a program or a button of the
    page asking for what is behind it."""
    headers = request.headers
    if "download" in request.query_params or "kind" in request.query_params:
        return False
    if any(name in headers for name in ("range", "authorization", "tesra-share-password")):
        return False
    return "text/html" in headers.get("accept", "")


def password_known(request: Request, services: Services, share: StoredShare) -> bool:
    """Whether this browser has shown the link's password within the hour."""
    return share.password_hash is not None and _said(request, services) == [
        share.id,
        share.password_hash,
    ]


async def shared_page(
    request: Request, services: Services, secret: str, path: str | None
) -> Response:
    """The page of a link: what it leads to, or its password's form, or why it opens nothing."""
    visit = await visit_of(request, services)
    try:
        share = await services.shares.find(secret)
        if share.state == "used_up":
            raise ShareUsedUp
        if share.password_hash is not None and not password_known(request, services, share):
            return _ask(visit, secret)
        parts = parse_path(path or "")
        try:
            found = await services.shares.open(share, path)
        except NotFound as error:
            raise ShareEmpty from error
        return await _found(visit, secret, share, parts, found)
    except TesraError as error:
        return _over(visit, error)


@router.post("/s/{secret}/open")
async def open_with_password(visit: Visitor, secret: str, form: Posted) -> Response:
    """The password's form; then the page."""
    services = visit.services
    try:
        share = await services.shares.admit(secret, form.raw("password"))
    except (SharePasswordNeeded, SharePasswordWrong) as error:
        return _ask(visit, secret, error=error)
    except TesraError as error:
        return _over(visit, error)
    answer = visit.redirect(f"/s/{quote(secret, safe='')}")
    _remember(visit, answer, share, secret)
    return answer


async def _found(
    visit: Visit,
    secret: str,
    share: StoredShare,
    parts: Parts,
    found: SharedFile | SharedFolder,
) -> Response:
    address = f"/s/{quote(secret, safe='')}"
    below = "/".join(parts)
    is_folder = isinstance(found, SharedFolder)
    rows, next_url, first_url = [], None, None
    if isinstance(found, SharedFolder):
        cursor = visit.request.query_params.get("cursor")
        if cursor:
            first_url = f"{address}?{urlencode({'path': below})}" if below else address
        entries = await visit.services.shares.entries(
            share, found, after=decode_cursor(cursor), limit=ROWS + 1
        )
        rows = [_row(address, parts, entry) for entry in entries[:ROWS]]
        if len(entries) > ROWS:
            ask = {"path": below, "cursor": encode_cursor(entries[ROWS - 1].name)}
            next_url = f"{address}?{urlencode(ask)}"
    above = address if len(parts) == 1 else f"{address}?{urlencode({'path': '/'.join(parts[:-1])})}"
    return visit.page(
        "drive/shared.html",
        share=share,
        shown=shown_name(found.name),
        is_folder=is_folder,
        size_bytes=found.size_bytes if isinstance(found, SharedFile) else 0,
        rows=rows,
        next_url=next_url,
        first_url=first_url,
        above=above if parts else None,
        download=f"{address}?{urlencode({'path': below, 'download': '1'} if below else {'download': '1'})}",
    )


def _row(address: str, parts: Parts, entry: Entry) -> Row:
    path = "/".join((*parts, entry.name))
    ask = {"path": path} if isinstance(entry, Folder) else {"path": path, "download": "1"}
    return Row(
        path=path,
        shown=shown_name(entry.name),
        kind="dir" if isinstance(entry, Folder) else "file" if isinstance(entry, File) else "link",
        size_bytes=entry.size if isinstance(entry, File) else 0,
        url=f"{address}?{urlencode(ask)}",
    )


def _ask(visit: Visit, secret: str, *, error: TesraError | None = None) -> Response:
    return visit.page(
        "drive/shared_password.html",
        status=401 if error else 200,
        action=f"/s/{quote(secret, safe='')}/open",
        error=visit.words(error) if error else None,
    )


def _over(visit: Visit, error: TesraError) -> Response:
    answer = visit.page(
        "drive/shared_over.html",
        status=status_of(error),
        words=visit.words(type(error)() if isinstance(error, ShareUnknown | Gone) else error),
        gone=isinstance(error, Gone),
        wait=isinstance(error, TooManyGuesses),
    )
    for name, value in SECURITY_HEADERS.items():
        answer.headers.setdefault(name, value)
    return answer


def _remember(visit: Visit, answer: Response, share: StoredShare, secret: str) -> None:
    until = visit.services.clock.now() + OPEN_FOR
    said = json.dumps([share.id, share.password_hash, until.isoformat()]).encode()
    sealed = urlsafe_b64encode(visit.services.sealer.seal(said, _CONTEXT)).decode()
    set_cookie(
        visit.request, answer, COOKIE, sealed,
        max_age_s=round(OPEN_FOR.total_seconds()), path=f"/s/{quote(secret, safe='')}",
    )  # fmt: skip


def _said(request: Request, services: Services) -> list[str] | None:
    text = request.cookies.get(COOKIE)
    if not text:
        return None
    try:
        opened = services.sealer.open(urlsafe_b64decode(text.encode()), _CONTEXT)
        share, password_hash, until = json.loads(opened)
    except (SealBroken, NotBase64, ValueError):
        return None
    if datetime.fromisoformat(until) < services.clock.now():
        return None
    return [share, password_hash]
