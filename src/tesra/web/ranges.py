"""Downloads: whole or in ranges (RFC 9110), as attachments, never compressed or sniffed."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import quote

from fastapi import HTTPException, Request
from fastapi.responses import StreamingResponse

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

    Several ranges at once and other units are answered with the whole, as the RFC allows.
    """
    start, end = _range(request.headers.get("range"), size)
    partial = (start, end) != (0, size) or _RANGE.match(request.headers.get("range", ""))
    all_headers = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(end - start),
        "X-Content-Type-Options": "nosniff",
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


def attachment(name: str) -> dict[str, str]:
    """A header that makes a browser save the file under its name (RFC 6266)."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return {
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    }


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
        raise HTTPException(416, f"There are {size} bytes.", headers=headers)
    return start, end
