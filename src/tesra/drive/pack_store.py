"""Packs on a local disk. A pack is found by its id only when all of it is on the disk for good.

Write order: temporary file, fsync, rename, fsync of the folder; the index is the caller's and
comes after. The folder is also the gateway's, the storage peer beside the server: `drive.peers`
sees to the other copies.
"""

import asyncio
import errno
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from tesra.crypto.keys import sync_folder
from tesra.drive.model import DiskFull, PackRefused, PackTooLarge, PackUnknown
from tesra.storage.merkle import PackTree, TreeBuilder
from tesra.storage.packing import MAX_PACK_BYTES, PackEntry, read_index

Mend = Callable[[str, bool], Awaitable[None]]  # a pack, and whether its file is there, but spoilt

_BUFFER_BYTES = 2**20
_PIECES = 1024  # the most that the kernel takes at once; a byte at a time fills no memory
_HEX_ID_CHARACTERS = 64
_INCOMING = "incoming"


@dataclass(frozen=True, slots=True)
class IncomingPack:
    """A verified pack that is not kept yet."""

    tree: PackTree
    part: Path
    entries: list[PackEntry]

    @property
    def pack_id(self) -> str:
        return self.tree.pack_id

    @property
    def size_bytes(self) -> int:
        return self.tree.size_bytes


class PackStore:
    """A folder of packs: ``ab/<pack id>``; what is missing there is asked of ``mend`` before it is
    said to be unknown."""

    def __init__(
        self, folder: Path, *, mend: Mend | None = None, used: Callable[[], None] = lambda: None
    ) -> None:
        """``used`` is called at each piece that is sent to somebody."""
        self._folder = folder
        self._mend = mend
        self._used = used

    @asynccontextmanager
    async def receive(
        self, pack_id: str, stream: AsyncIterator[bytes], *, limit_bytes: int = MAX_PACK_BYTES
    ) -> AsyncIterator[IncomingPack]:
        """Take a stream to disk and verify it against its id and its index, in bounded memory.

        What ``keep`` was not called for is gone after the block. Raises ``PackTooLarge``,
        ``PackRefused``, ``PackBroken``, ``DiskFull``.
        """
        part = self._folder / _INCOMING / secrets.token_hex(16)
        try:
            tree = await self._write(part, pack_id, stream, limit_bytes)
            entries = await asyncio.to_thread(_verified_index, part, tree.size_bytes)
            yield IncomingPack(tree, part, entries)
        finally:
            await asyncio.to_thread(part.unlink, missing_ok=True)

    async def keep(self, incoming: IncomingPack) -> None:
        """Make a verified pack durable under its id; again is harmless."""
        await asyncio.to_thread(self._keep, incoming)

    async def holds(self, pack_id: str) -> bool:
        return await asyncio.to_thread(self._path(pack_id).exists)

    async def size(self, pack_id: str) -> int:
        try:
            return await asyncio.to_thread(self._size, pack_id)
        except PackUnknown:
            await self.mend(pack_id)
            return await asyncio.to_thread(self._size, pack_id)

    async def read(self, pack_id: str, start: int, end: int) -> bytes:
        """Bytes ``start`` up to (not with) ``end``."""
        try:
            return await asyncio.to_thread(self._read, pack_id, start, end)
        except PackUnknown:
            await self.mend(pack_id)
            return await asyncio.to_thread(self._read, pack_id, start, end)

    async def mend(self, pack_id: str) -> None:
        """What is here of the pack is missing or not what it was: get a good copy, if there is one.

        Raises what ``mend`` raises when there is none now.
        """
        if self._mend is not None and await self.tree(pack_id) is None:
            await self._mend(pack_id, await self.holds(pack_id))

    async def tree(self, pack_id: str) -> PackTree | None:
        """The tree of the pack as it lies here; None if it is missing or not what it was."""
        return await asyncio.to_thread(self._tree, pack_id)

    async def stream(self, pack_id: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The same in pieces of bounded size."""
        for position in range(start, end, _BUFFER_BYTES):
            self._used()
            yield await self.read(pack_id, position, min(end, position + _BUFFER_BYTES))

    async def discard(self, pack_id: str) -> None:
        """Forget a pack that no index refers to."""
        await asyncio.to_thread(self._path(pack_id).unlink, missing_ok=True)

    async def older_than(self, age_s: float) -> list[str]:
        """Ids of packs that were kept longer ago than that; leftovers of receiving are cleared."""
        return await asyncio.to_thread(lambda: list(self._older_than(age_s)))

    async def _write(
        self, part: Path, pack_id: str, stream: AsyncIterator[bytes], limit_bytes: int
    ) -> PackTree:
        digest, size, written, pending = _Digest(), 0, 0, list[bytes]()
        with await asyncio.to_thread(_create, part) as file:
            async for piece in stream:
                pending.append(piece)
                size += len(piece)
                if size > limit_bytes:
                    raise PackTooLarge(f"A pack has at most {limit_bytes} bytes.")
                if size - written >= _BUFFER_BYTES or len(pending) >= _PIECES:
                    await asyncio.to_thread(_append, file, digest, pending)
                    pending, written = [], size
            await asyncio.to_thread(_append, file, digest, pending)
        if digest.whole.hexdigest() != pack_id:
            raise PackRefused(way_out="It was changed on its way: send it again.")
        return digest.tree.finish(pack_id)

    def _keep(self, incoming: IncomingPack) -> None:
        path = self._path(incoming.pack_id)
        try:
            if not path.parent.exists():
                path.parent.mkdir(mode=0o700, exist_ok=True)
                sync_folder(self._folder)
            descriptor = os.open(incoming.part, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            incoming.part.rename(path)
            sync_folder(path.parent)
        except OSError as error:
            raise _said(error) from error

    def _read(self, pack_id: str, start: int, end: int) -> bytes:
        try:
            with self._path(pack_id).open("rb", buffering=0) as file:
                data = os.pread(file.fileno(), end - start, start)
        except FileNotFoundError as error:
            raise PackUnknown from error
        if len(data) != end - start:
            raise PackUnknown("The pack ends before this range.")
        return data

    def _size(self, pack_id: str) -> int:
        try:
            return self._path(pack_id).stat().st_size
        except FileNotFoundError as error:
            raise PackUnknown from error

    def _tree(self, pack_id: str) -> PackTree | None:
        digest = _Digest()
        try:
            with self._path(pack_id).open("rb", buffering=0) as file:
                while data := file.read(_BUFFER_BYTES):
                    digest.whole.update(data)
                    digest.tree.update(data)
        except OSError:  # missing, or not to be read
            return None
        good = digest.whole.hexdigest() == pack_id
        return digest.tree.finish(pack_id) if good else None

    def _older_than(self, age_s: float) -> Iterator[str]:
        border = time.time() - age_s
        for path in self._folder.glob("*/*"):
            try:
                if path.stat().st_mtime > border:
                    continue
                if path.parent.name == _INCOMING:
                    path.unlink()
                elif len(path.name) == _HEX_ID_CHARACTERS:
                    yield path.name
            except FileNotFoundError:
                continue  # another server was faster

    def _path(self, pack_id: str) -> Path:
        if len(pack_id) != _HEX_ID_CHARACTERS or set(pack_id) - set("0123456789abcdef"):
            raise PackUnknown
        return self._folder / pack_id[:2] / pack_id


def _create(part: Path) -> BinaryIO:
    try:
        part.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return part.open("xb", buffering=0)
    except OSError as error:
        raise _said(error) from error


class _Digest:
    """A pack's name and its Merkle tree, as it comes in."""

    def __init__(self) -> None:
        self.whole = blake3()
        self.tree = TreeBuilder()


def _append(file: BinaryIO, digest: _Digest, pieces: list[bytes]) -> None:
    """At most ``_PIECES`` of them."""
    for piece in pieces:
        digest.whole.update(piece)
        digest.tree.update(piece)
    try:
        written = os.writev(file.fileno(), pieces)
        if written < sum(map(len, pieces)):  # the disk is nearly full, or a signal came
            rest = memoryview(b"".join(pieces))[written:]
            while rest:
                rest = rest[file.write(rest) :]
    except OSError as error:
        raise _said(error) from error


def _verified_index(part: Path, size: int) -> list[PackEntry]:
    with part.open("rb") as file:
        return read_index(file, size)


def _said(error: OSError) -> OSError | DiskFull:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFull(way_out="Try again later; the operator has to make room.")
    return error
