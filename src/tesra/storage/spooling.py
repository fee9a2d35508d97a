"""An archive's files in one file on the disk, one behind the other; their names in memory.

As files of their own 100,000 small ones take a disk minutes to make, and again to remove. This
way they cost their bytes alone, and memory grows with the names: some 300 bytes for each.
"""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, cast

from tesra.storage.archives import Limits, both_kinds, read_archive
from tesra.storage.assembling import cut_file
from tesra.storage.sending import ChunkSender
from tesra.storage.tree import MAX_DEPTH, Entry, File, Folder, Link, NodeWriter
from tesra.storage.uploading import NotStorable, UploadedTree

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_READ_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Where in the spool a file lies."""

    start: int
    size: int
    executable: bool


_Names = dict[str, "_Names | _Stretch | str"]  # a folder, a file, or a link and where it leads


class Spool:
    """A target for ``read_archive``; ``file`` is empty, its own, and the caller's to close."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = 0
        self._names: _Names = {}

    def folder(self, path: PurePosixPath) -> None:
        self._below(path.parts)

    def file(self, path: PurePosixPath, blocks: Iterator[bytes], *, executable: bool) -> None:
        start = self._end
        for block in blocks:
            self._file.write(block)
            self._end += len(block)
        self._put(path, _Stretch(start, self._end - start, executable))

    def link(self, path: PurePosixPath, target: str) -> None:
        self._put(path, target)

    def same(self, path: PurePosixPath, other: PurePosixPath) -> None:
        found = self._found(other)
        assert isinstance(found, _Stretch)  # whoever asks has its size
        self._put(path, found)

    def size_of(self, path: PurePosixPath) -> int | None:
        found = self._found(path)
        return found.size if isinstance(found, _Stretch) else None

    def send(self, sender: ChunkSender) -> UploadedTree:
        """Store all of it; every chunk is on the other side's disk when this returns."""
        self._file.flush()
        sending = _Sending(sender, self._file)
        root = sending.folder(self._names, depth=0)
        sender.finish()
        return UploadedTree(root, sending.file_count, sending.size_bytes, sender.moved_bytes)

    def _found(self, path: PurePosixPath) -> "_Names | _Stretch | str | None":
        found: _Names | _Stretch | str | None = self._names
        for name in path.parts:
            found = found.get(name) if isinstance(found, dict) else None
        return found

    def _below(self, parts: tuple[str, ...]) -> _Names:
        names = self._names
        for depth, name in enumerate(parts):
            below = names.setdefault(name, {})
            if not isinstance(below, dict):
                raise both_kinds(PurePosixPath(*parts[: depth + 1]))
            names = below
        return names

    def _put(self, path: PurePosixPath, found: _Stretch | str) -> None:
        names = self._below(path.parts[:-1])
        if isinstance(names.get(path.name), dict):
            raise both_kinds(path)
        names[path.name] = found


def spool_archive(archive: Path, file: BinaryIO, limits: Limits | None = None) -> Spool:
    """The files of a zip or tar in ``file``; raises a kind of ``ArchiveRefused``."""
    spool = Spool(file)
    read_archive(archive, spool, limits)
    return spool


class _Sending:
    """One walk: a folder's id is known before its parent's entry is made."""

    def __init__(self, sender: ChunkSender, file: BinaryIO) -> None:
        self._sender = sender
        self._descriptor = file.fileno()
        self.file_count = 0
        self.size_bytes = 0

    def folder(self, names: _Names, depth: int) -> bytes:
        if depth > MAX_DEPTH:
            raise NotStorable(f"Folders are nested more than {MAX_DEPTH} deep.")
        writer = NodeWriter()
        for name in sorted(names, key=str.encode):
            for plain in writer.add(self._entry(name, names[name], depth)):
                writer.stored(self._sender.offer(plain))
        for plain in writer.finish():
            writer.stored(self._sender.offer(plain))
        return writer.tree_id

    def _entry(self, name: str, found: "_Names | _Stretch | str", depth: int) -> Entry:
        if isinstance(found, dict):
            return Folder(name, self.folder(found, depth + 1))
        self.file_count += 1
        if isinstance(found, str):
            return Link(name, found)
        self.size_bytes += found.size
        return self._file(name, found)

    def _file(self, name: str, found: _Stretch) -> File:
        raw = _Part(self._descriptor, found.start, found.size)
        part = cast(BinaryIO, io.BufferedReader(raw, min(found.size + 1, _READ_BYTES)))
        return cut_file(self._sender, part, name=name, executable=found.executable)


class _Part(io.RawIOBase):
    """A stretch of an open file as a file of its own."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        self._descriptor = descriptor
        self._start = start
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer)
        left = max(0, min(len(view), self._size - self._position))
        data = os.pread(self._descriptor, left, self._start + self._position)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)
