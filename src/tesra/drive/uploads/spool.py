"""Partial uploads on disk: one private file each, whose size is the offset that is acknowledged.

Whatever is acknowledged was fsynced before, so a server that dies at any moment finds it again.
One writer at a time holds a file's lock; the kernel lets go of it when the process ends.
"""

import asyncio
import errno
import fcntl
import hashlib
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tesra.drive.model import DiskFull
from tesra.drive.uploads.model import (
    CHECKSUMS,
    ChecksumMismatch,
    LengthExceeded,
    UploadBusy,
    UploadEnded,
)

_BUFFER_BYTES = 2**20
_SPARE_BYTES = 256 * 2**20  # left free on the disk, for the database beside it
_CHUNK = ".chunk"  # bytes that are not verified yet


@dataclass(slots=True)
class Lock:
    """An upload's file, held alone."""

    file: BinaryIO

    @property
    def size(self) -> int:
        return os.fstat(self.file.fileno()).st_size


@dataclass(slots=True)
class Received:
    """How far one request came; true at every moment, also after it was cut off."""

    pending: bytearray = field(default_factory=bytearray)
    came_bytes: int = 0
    writing: threading.Lock = field(default_factory=threading.Lock)  # a cancelled wait leaves one


class Spool:
    """A folder of partial uploads, named by their ids."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def create(self, upload: str) -> None:
        await asyncio.to_thread(self._create, upload)

    async def offset(self, upload: str) -> int:
        """How many bytes are on disk for good."""
        return await asyncio.to_thread(self._offset, upload)

    @contextmanager
    def lock(self, upload: str) -> Iterator[Lock]:
        """The file, for this request alone; raises ``UploadBusy`` at once."""
        try:
            file = self.path(upload).open("r+b", buffering=0)
        except FileNotFoundError as error:
            raise UploadEnded from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UploadBusy(way_out="Ask where it stands, then go on from there.") from error
            yield Lock(file)

    async def append(self, lock: Lock, stream: AsyncIterator[bytes], *, room_bytes: int) -> None:
        """Add what comes, as far as it comes: whatever ends the stream, it is on disk then.

        More than ``room_bytes`` raises ``LengthExceeded``, and nothing of this request is kept.
        """
        start = lock.size
        os.lseek(lock.file.fileno(), start, os.SEEK_SET)
        received = Received()
        try:
            await _take(lock.file, stream, received, room_bytes)
        except LengthExceeded:
            await asyncio.to_thread(lock.file.truncate, start)
            raise
        finally:
            await asyncio.shield(asyncio.to_thread(_flush, lock.file, received))

    async def append_verified(
        self,
        upload: str,
        lock: Lock,
        stream: AsyncIterator[bytes],
        *,
        room_bytes: int,
        checksum: tuple[str, bytes],
    ) -> None:
        """Add what comes if it has this checksum, else nothing; raises ``ChecksumMismatch``."""
        part = self.path(upload).with_suffix(_CHUNK)
        try:
            with part.open("w+b", buffering=0) as chunk:
                received = Received()
                await _take(chunk, stream, received, room_bytes)
                await asyncio.to_thread(_write, chunk, received)
                if await asyncio.to_thread(_digest, chunk, checksum[0]) != checksum[1]:
                    raise ChecksumMismatch(way_out="Send it again.")
                await asyncio.shield(asyncio.to_thread(_join, chunk, lock.file))
        finally:
            part.unlink(missing_ok=True)

    async def sha256(self, upload: str) -> str:
        """Of all bytes."""

        def digest() -> str:
            with self.path(upload).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()

        return await asyncio.to_thread(digest)

    def require_room(self, needed_bytes: int) -> None:
        """Raises ``DiskFull`` when so much more does not fit on the disk."""
        if shutil.disk_usage(self.folder).free < needed_bytes + _SPARE_BYTES:
            raise DiskFull(way_out="Try again later; the operator has to make room.")

    def discard(self, upload: str) -> None:
        for path in (self.path(upload), self.path(upload).with_suffix(_CHUNK)):
            path.unlink(missing_ok=True)

    def ages(self) -> dict[str, float]:
        """All uploads that have a file, and for how long nothing was written to it."""
        now, found = time.time(), dict[str, float]()
        for path in self.folder.glob("upl_*"):
            with suppress(FileNotFoundError):  # another server was faster
                age_s = now - path.stat().st_mtime
                found[path.stem] = min(age_s, found.get(path.stem, age_s))
        return found

    def path(self, upload: str) -> Path:
        assert upload.replace("_", "").isalnum()  # an id of ours
        return self.folder / upload

    def _create(self, upload: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.path(upload), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.close(descriptor)

    def _offset(self, upload: str) -> int:
        try:
            with self.path(upload).open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                os.fsync(file.fileno())
                return size
        except FileNotFoundError as error:
            raise UploadEnded from error


async def _take(
    file: BinaryIO, stream: AsyncIterator[bytes], received: Received, room_bytes: int
) -> None:
    async for piece in stream:
        received.came_bytes += len(piece)
        if received.came_bytes > room_bytes:
            received.pending.clear()
            raise LengthExceeded(way_out="Begin a new upload that says its true length.")
        received.pending += piece
        if len(received.pending) >= _BUFFER_BYTES:
            await asyncio.shield(asyncio.to_thread(_write, file, received))


def _write(file: BinaryIO, received: Received) -> None:
    with received.writing:
        data, received.pending = received.pending, bytearray()
        _write_all(file, data)


def _write_all(file: BinaryIO, data: bytes | bytearray) -> None:
    with memoryview(data) as view:
        position = 0
        try:
            while position < len(view):
                position += file.write(view[position:])
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise DiskFull(way_out="Try again later; the operator has to make room.") from error
            raise


def _flush(file: BinaryIO, received: Received) -> None:
    try:
        _write(file, received)
    finally:
        os.fsync(file.fileno())


def _digest(chunk: BinaryIO, kind: str) -> bytes:
    chunk.seek(0)
    digest = CHECKSUMS[kind]()
    while data := chunk.read(_BUFFER_BYTES):
        digest.update(data)
    found: bytes = digest.digest()
    return found


def _join(chunk: BinaryIO, file: BinaryIO) -> None:
    """What is verified comes behind what is there; cut off in between, a part of it is."""
    chunk.seek(0)
    file.seek(0, os.SEEK_END)
    while data := chunk.read(_BUFFER_BYTES):
        _write_all(file, data)
    os.fsync(file.fileno())
