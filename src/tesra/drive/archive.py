"""A tree as a zip or a tar, made while it is sent: nothing of it is ever whole on the server.

Links that lead out of the tree are left out, as unpacking one would refuse them.
"""

import stat
import tarfile
import zipfile
from collections.abc import AsyncIterator, Sequence
from typing import IO, cast

from tesra.drive.reading import EpochReader, Parts
from tesra.storage.tree import Entry, File, Folder, Link, link_stays_inside

_TIME = (1980, 1, 1, 0, 0, 0)  # snapshots keep no times; zip's first day
_SEND_BYTES = 256 * 2**10


class _Outlet:
    """What ``zipfile`` writes into; emptied as it goes."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def write(self, data: bytes) -> int:
        self._pending += data
        return len(data)

    def flush(self) -> None:
        """Nothing is held back here."""

    def __len__(self) -> int:
        return len(self._pending)

    def take(self) -> bytes:
        taken, self._pending = bytes(self._pending), bytearray()
        return taken


async def zip_stream(reader: EpochReader, root: bytes) -> AsyncIterator[bytes]:
    """The bytes of a zip with all files, links and folders of the tree ``root``; not compressed."""
    async for piece in _zipped(reader, _inside(reader, root)):
        yield piece


async def zip_of(reader: EpochReader, chosen: Sequence[Entry]) -> AsyncIterator[bytes]:
    """A zip of these entries, each under its own name with all that is below it."""
    async for piece in _zipped(reader, _among(reader, chosen)):
        yield piece


async def _zipped(
    reader: EpochReader, entries: AsyncIterator[tuple[Parts, Entry]]
) -> AsyncIterator[bytes]:
    outlet = _Outlet()
    with zipfile.ZipFile(cast(IO[bytes], outlet), "w", zipfile.ZIP_STORED) as packed:
        async for parts, entry in entries:
            path = "/".join(parts)
            match entry:
                case Folder():
                    packed.writestr(_info(f"{path}/", stat.S_IFDIR | 0o755), b"")
                case Link():
                    packed.writestr(_info(path, stat.S_IFLNK | 0o777), entry.target)
                case File():
                    info = _info(path, stat.S_IFREG | (0o755 if entry.executable else 0o644))
                    info.file_size = entry.size
                    with packed.open(info, "w", force_zip64=entry.size >= 2**31) as target:
                        async for piece in reader.content(entry, 0, entry.size):
                            target.write(piece)
                            if len(outlet) >= _SEND_BYTES:
                                yield outlet.take()
            if len(outlet) >= _SEND_BYTES:
                yield outlet.take()
    yield outlet.take()


async def tar_stream(reader: EpochReader, root: bytes) -> AsyncIterator[bytes]:
    """The same as a tar (pax)."""
    async for parts, entry in _inside(reader, root):
        info = tarfile.TarInfo("/".join(parts))
        info.mode = 0o644
        match entry:
            case Folder():
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            case Link():
                info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, entry.target
            case File():
                info.size, info.mode = entry.size, 0o755 if entry.executable else 0o644
        yield info.tobuf(tarfile.PAX_FORMAT)
        if isinstance(entry, File):
            async for piece in reader.content(entry, 0, entry.size):
                yield piece
            yield bytes(-entry.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


async def _among(
    reader: EpochReader, chosen: Sequence[Entry]
) -> AsyncIterator[tuple[Parts, Entry]]:
    for entry in chosen:
        yield (entry.name,), entry
        if isinstance(entry, Folder):
            async for parts, below in _inside(reader, entry.tree):
                yield (entry.name, *parts), below


async def _inside(reader: EpochReader, root: bytes) -> AsyncIterator[tuple[Parts, Entry]]:
    async for parts, entry in reader.walk(root):
        if not isinstance(entry, Link) or link_stays_inside(len(parts) - 1, entry.target):
            yield parts, entry


def _info(path: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(path, _TIME)
    info.create_system = 3  # Unix: the mode counts
    info.external_attr = mode << 16
    return info
