"""What pages load: our own files and those of npm packages, from memory, compressed once.

An address carries the hash of its content (``?v=``), so that a browser may keep it for ever.
"""

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import Request, Response

from tesra.kit.errors import NotFound
from tesra.web.ui.routing import PageRouter

FOLDER = Path(__file__).parent / "static"
PREFIX = "/static"
FOR_EVER = "public, max-age=31536000, immutable"
_TEXT = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

router = PageRouter()


class NoSuchFile(NotFound):
    """There is no such file."""


class PagesNotBuilt(RuntimeError):
    """The pages' npm packages are missing: install Tesra anew (`make setup` in a checkout)."""


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file as it is sent; ``packed`` is None where gzip gains nothing."""

    body: bytes
    packed: bytes | None
    media_type: str
    version: str


@cache
def static_files() -> Mapping[str, StaticFile]:
    """All files by the path below ``/static/``."""
    if not (FOLDER / "npm" / "tabler.css").is_file():
        raise PagesNotBuilt(PagesNotBuilt.__doc__)
    paths = [path for path in sorted(FOLDER.rglob("*")) if path.is_file()]
    return {
        path.relative_to(FOLDER).as_posix(): _read(path)
        for path in paths
        if path.suffix != ".gz" and not path.name.startswith(".")
    }


def static_url(name: str) -> str:
    """The address of a file, with its version."""
    return f"{PREFIX}/{name}?v={static_files()[name].version}"


@router.get(PREFIX + "/{name:path}")
async def static(name: str, request: Request, v: str = "") -> Response:
    """One file; 304 when the browser has it."""
    file = static_files().get(name)
    if file is None:
        raise NoSuchFile
    headers = {
        "ETag": f'"{file.version}"',
        "Cache-Control": FOR_EVER if v == file.version else "no-cache",
        "Vary": "Accept-Encoding",
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    packed = file.packed if "gzip" in request.headers.get("accept-encoding", "") else None
    if packed is not None:
        headers["Content-Encoding"] = "gzip"
    return Response(packed or file.body, headers=headers, media_type=file.media_type)


@router.get("/favicon.ico")
async def favicon(request: Request) -> Response:
    icon: Response = await static("icon.svg", request)
    return icon


def _read(path: Path) -> StaticFile:
    body = path.read_bytes()
    beside = path.with_name(path.name + ".gz")
    packed = beside.read_bytes() if beside.is_file() else gzip.compress(body, 9, mtime=0)
    guessed = _TEXT.get(path.suffix) or mimetypes.guess_type(path.name)[0]
    return StaticFile(
        body=body,
        packed=packed if len(packed) < len(body) * 0.9 else None,
        media_type=guessed or "application/octet-stream",
        version=hashlib.sha256(body).hexdigest()[:16],
    )
