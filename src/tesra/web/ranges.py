"""Downloads: whole or in ranges (RFC 9110), as attachments, never compressed or sniffed."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import quote

from fastapi import HTTPException, Request
from fastapi.responses import StreamingResponse

from tesra.kit.saying import said

SANDBOX = "default-src 'none'; script-src 'none'; frame-ancestors 'none'; base-uri 'none'; sandbox"
_RANGE = re.compile(r"^bytes=(\d{0,19})-(\d{0,19})$")

Read = Callable[[int, int], AsyncIterator[bytes]]


def ranged(
    request: Request,
    size: int,
    read: Read,
    *,
    etag: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> StreamingResponse:
    """``read(start, end)`` as the answer to a request that may name one range.

    Several ranges at once and other units are answered with the whole, as the RFC allows. With an
    ``etag`` who has the content is told so, and a range of another content is answered whole.
    """
    if known(request, etag):
        return StreamingResponse(_nothing(), 304, headers={"ETag": f'"{etag}"'})
    asked = _asked(request, etag)
    start, end = _range(asked, size)
    partial = (start, end) != (0, size) or _RANGE.match(asked or "")
    all_headers = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(end - start),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": SANDBOX,
        **(headers or {}),
    }
    if partial:
        all_headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    if etag is not None:
        all_headers["ETag"] = f'"{etag}"'
    return StreamingResponse(
        read(start, end),
        status_code=206 if partial else 200,
        headers=all_headers,
        media_type="application/octet-stream",
    )


def known(request: Request, etag: str | None) -> bool:
    """Whether the caller says that it has just this content (If-None-Match)."""
    return etag is not None and etag in _tags(request.headers.get("if-none-match"))


def begins_at(request: Request, size: int, etag: str | None = None) -> int:
    """The first byte that ``ranged`` will send; raises as it does for a range that is not there."""
    return _range(_asked(request, etag), size)[0]


def attachment(name: str) -> dict[str, str]:
    """A header that makes a browser save the file under its name (RFC 6266)."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return {
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    }


def _asked(request: Request, etag: str | None) -> str | None:
    """The range that counts: one with an If-Range of another content does not (RFC 9110, 13.1.5)."""
    condition = request.headers.get("if-range")
    if condition is not None and etag is not None and condition != f'"{etag}"':
        return None
    return request.headers.get("range")


def _tags(header: str | None) -> set[str]:
    return {tag.strip().removeprefix("W/").strip('"') for tag in (header or "").split(",")}


async def _nothing() -> AsyncIterator[bytes]:
    """The body of an answer without one."""
    return
    yield b""


def _range(header: str | None, size: int) -> tuple[int, int]:
    found = _RANGE.match(header or "")
    if found is None:
        return 0, size
    first, last = found.groups()
    if not first and not last:
        return 0, size
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    if start >= size or end <= start:
        headers = {"Content-Range": f"bytes */{size}"}
        raise HTTPException(416, said(f"There are {size} bytes."), headers=headers)
    return start, end
