"""Previews of files in drives that the server has the keys of, in memory that has a bound.

Of text the first 64 KiB are read, of tensors the header; an image goes piece by piece to a
process of its own, which decodes it and may fail, hang or burst without anybody else's harm.
"""

import asyncio
import base64
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import Any

from tesra.drive.files.service import FileService
from tesra.drive.previews import decoder
from tesra.drive.previews.text import HEAD_BYTES, decode, table
from tesra.drive.snapshots import OpenFile
from tesra.kit.errors import Invalid, Unavailable
from tesra.kit.ids import UserId
from tesra.kit.saying import said
from tesra.storage.editing import parse_path, show_path
from tesra.wire.previews import Preview, PreviewImage, PreviewTensors

MAX_IMAGE_BYTES = 64 * 2**20
MAX_HEADER_BYTES = 16 * 2**20
MAX_ANSWER_BYTES = 8 * 2**20
AT_ONCE = 2
TIMEOUT_S = 30.0
WAIT_S = 60.0
DOWNLOAD = "Download it: `tesra drive get xingpan:/PATH .`"
_IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
_TABLES = {".csv", ".tsv"}
_MARKDOWN = {".md", ".markdown"}


class PreviewRefused(Invalid):
    """This file can't be shown."""


class PreviewsBusy(Unavailable):
    """Too many previews are being made: try again in a moment."""


class PreviewService:
    """One for a server process."""

    def __init__(self, files: FileService) -> None:
        self._files = files
        self._room = asyncio.Semaphore(AT_ONCE)

    async def preview(self, owner: UserId, path: str, *, version: int | None = None) -> Preview:
        """What can be seen of the file at a path; raises ``PreviewRefused`` for a damaged one."""
        file = await self._files.open(owner, path, version=version)
        head = await _bytes_of(file.read(0, min(HEAD_BYTES, file.size_bytes)))
        seen = Preview(
            path=show_path(parse_path(path)),
            name=file.name,
            size_bytes=file.size_bytes,
            kind="binary",
        )
        ending = PurePosixPath(file.name).suffix.lower()
        if _is_image(head):
            image = await self._image(file)
            return seen.model_copy(update={"kind": "image", "image": image})
        if ending == ".safetensors":
            tensors = await self._tensors(file, head)
            cut = tensors.count > len(tensors.tensors)
            return seen.model_copy(update={"kind": "tensors", "tensors": tensors, "truncated": cut})
        return await self._text(seen, head, ending)

    async def thumbnail(
        self, owner: UserId, path: str, *, version: int | None = None
    ) -> tuple[bytes, str]:
        """A small image of an image, and its media type."""
        seen = await self.preview(owner, path, version=version)
        if seen.image is None:
            raise PreviewRefused("This is no image.")
        return base64.b64decode(seen.image.thumbnail), seen.image.thumbnail_type

    async def _text(self, seen: Preview, head: bytes, ending: str) -> Preview:
        whole = seen.size_bytes <= len(head)
        decoded = await asyncio.to_thread(decode, head, whole=whole)
        if decoded is None:
            return seen
        found: dict[str, Any] = {
            "kind": "text",
            "text": decoded.text,
            "encoding": decoded.encoding,
            "truncated": not whole,
        }
        if ending in _TABLES:
            rows = await asyncio.to_thread(table, decoded.text, whole=whole)
            found |= {"kind": "csv", "table": rows, "text": None}
            found["truncated"] = not whole or len(decoded.text.splitlines()) > len(rows.rows) + 1
        elif ending in _MARKDOWN:
            rendered = await self._decoded("markdown", _one(decoded.text.encode(errors="replace")))
            found |= {"kind": "markdown", "html": rendered["html"]}
        return seen.model_copy(update=found)

    async def _image(self, file: OpenFile) -> PreviewImage:
        if file.size_bytes > MAX_IMAGE_BYTES:
            raise PreviewRefused(
                f"Images up to {MAX_IMAGE_BYTES // 2**20} MiB are shown.", way_out=DOWNLOAD
            )
        answer = await self._decoded("image", file.read(0, file.size_bytes))
        return PreviewImage.model_validate(answer)

    async def _tensors(self, file: OpenFile, head: bytes) -> PreviewTensors:
        size = int.from_bytes(head[:8], "little") if len(head) >= 8 else 0
        if not 2 <= size <= file.size_bytes - 8:
            raise PreviewRefused(
                "This is no safetensors file: its header would be longer than the file.",
                way_out="Look whether it was stored whole.",
            )
        if size > MAX_HEADER_BYTES:
            raise PreviewRefused(
                f"Headers up to {MAX_HEADER_BYTES // 2**20} MiB are shown.", way_out=DOWNLOAD
            )
        answer = await self._decoded("tensors", file.read(8, 8 + size))
        if answer["size_bytes"] > file.size_bytes - 8 - size:
            raise PreviewRefused(
                "The file is shorter than its header says.",
                way_out="Look whether it was stored whole.",
            )
        return PreviewTensors.model_validate(answer)

    async def _decoded(self, way: str, content: AsyncIterator[bytes]) -> dict[str, Any]:
        """What the decoder makes of it; waits until there is room for one more."""
        try:
            await asyncio.wait_for(self._room.acquire(), WAIT_S)
        except TimeoutError as error:
            raise PreviewsBusy from error
        try:
            said = await _run(way, content)
        finally:
            self._room.release()
        if "refused" in said:
            raise PreviewRefused(f"This can't be shown. {said['refused']}", way_out=DOWNLOAD)
        return said


def _is_image(head: bytes) -> bool:
    """By what it begins with, whatever it is called."""
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    bmp = head[:2] == b"BM" and head[6:10] == bytes(4)
    return webp or bmp or head.startswith(_IMAGES)


async def _run(way: str, content: AsyncIterator[bytes]) -> dict[str, Any]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-X", "utf8", str(Path(decoder.__file__)), way),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            answer, _ = await asyncio.gather(_answer(child), _feed(child, content))
            await child.wait()
            return dict(json.loads(answer))
    except (TimeoutError, ValueError):
        return {"refused": said("It takes more time or memory than a preview may.")}
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def _answer(child: asyncio.subprocess.Process) -> bytes:
    assert child.stdout is not None
    answer = bytearray()
    while piece := await child.stdout.read(2**16):
        answer += piece
        if len(answer) > MAX_ANSWER_BYTES:
            raise ValueError
    return bytes(answer)


async def _feed(child: asyncio.subprocess.Process, content: AsyncIterator[bytes]) -> None:
    """Give the decoder all that it takes; it may end before."""
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        async for piece in content:
            child.stdin.write(piece)
            await child.stdin.drain()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        child.stdin.close()
        await child.stdin.wait_closed()


async def _bytes_of(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def _one(piece: bytes) -> AsyncIterator[bytes]:
    yield piece
