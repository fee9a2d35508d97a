"""A folder becomes chunks and trees; only what the other side lacks is sent, in bounded memory."""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tesra.kit.errors import Invalid
from tesra.storage.assembling import cut_file, inline_file
from tesra.storage.chunking import INLINE_BYTES
from tesra.storage.format import EpochKeys
from tesra.storage.listing import Node, Warn, listed, scanned, unheard
from tesra.storage.progress import Progress, Report, silent
from tesra.storage.sending import ChunkSender, PackSink
from tesra.storage.tree import (
    MAX_DEPTH,
    MAX_ENTRIES,
    Entry,
    File,
    Folder,
    Link,
    NameRefused,
    NodeWriter,
)


class NotStorable(Invalid):
    """The folder holds something that the drive can't."""


@dataclass(frozen=True, slots=True)
class UploadedTree:
    """What an upload made; every chunk of it is on the other side's disk. Links count as files."""

    root: bytes
    file_count: int
    size_bytes: int
    moved_bytes: int


def upload_folder(
    sink: PackSink,
    keys: EpochKeys,
    root: Path,
    *,
    files: Iterable[Path] | None = None,
    report: Report = silent,
    warn: Warn = unheard,
) -> UploadedTree:
    """Store a folder through ``sink``; ``warn`` hears of what can't be kept (sockets, links out).

    ``files`` limits it to these paths; errors of reading come as ``OSError``.
    """
    with ChunkSender(sink, keys) as sender:
        return send_folder(sender, root, files=files, report=report, warn=warn)


def send_folder(
    sender: ChunkSender,
    root: Path,
    *,
    files: Iterable[Path] | None = None,
    report: Report = silent,
    warn: Warn = unheard,
) -> UploadedTree:
    """The same through a sender of one's own."""
    nodes = scanned(root, warn) if files is None else listed(root, files, warn)
    upload = _Upload(sender, report)
    tree = upload.folder(nodes, depth=0)
    sender.finish()
    upload.tell("")
    return UploadedTree(tree, upload.done_files, upload.done_bytes, sender.moved_bytes)


class _Upload:
    """One walk: post-order, so that a folder's id is known before its parent's entry is made."""

    def __init__(self, sender: ChunkSender, report: Report) -> None:
        self._sender = sender
        self._report = report
        self._entries = 0
        self.done_files = 0
        self.done_bytes = 0

    def folder(self, nodes: Iterable[Node], depth: int) -> bytes:
        if depth > MAX_DEPTH:
            raise NotStorable(f"Folders are nested more than {MAX_DEPTH} deep.")
        writer = NodeWriter()
        for node in nodes:
            try:
                for plain in writer.add(self._entry(node, depth)):
                    writer.stored(self._sender.offer(plain))
            except NameRefused as error:
                path = node.path.encode(errors="backslashreplace").decode()
                raise NotStorable(
                    f"'{path}' can't be kept. {error.detail}", way_out=error.way_out
                ) from error
        for plain in writer.finish():
            writer.stored(self._sender.offer(plain))
        return writer.tree_id

    def tell(self, path: str) -> None:
        self._report(
            Progress(self.done_files, self.done_bytes, self._sender.moved_bytes, path=path)
        )

    def _entry(self, node: Node, depth: int) -> Entry:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise NotStorable(f"More than {MAX_ENTRIES:,} files.")
        if node.kind == "dir":
            return Folder(node.name, self.folder(node.children(), depth + 1))
        if node.kind == "link":
            self.done_files += 1
            return Link(node.name, node.target)
        entry = self._file(node)
        self.done_files += 1
        self.tell(node.path)
        return entry

    def _file(self, node: Node) -> File:
        descriptor, executable = _open_regular(node.path)
        try:
            head = os.read(descriptor, INLINE_BYTES + 1)
            if len(head) <= INLINE_BYTES:
                self.done_bytes += len(head)
                return inline_file(node.name, head, executable=executable)
            os.lseek(descriptor, 0, os.SEEK_SET)
            return self._cut(node, descriptor, executable=executable)
        finally:
            os.close(descriptor)

    def _cut(self, node: Node, descriptor: int, *, executable: bool) -> File:
        def took(size: int) -> None:
            self.done_bytes += size
            self.tell(node.path)

        with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
            return cut_file(
                self._sender,
                file,
                name=node.name,
                executable=executable,
                path=node.path,
                took=took,
            )


def _open_regular(path: str) -> tuple[int, bool]:
    """Open without following a link or hanging on a pipe that took the file's place meanwhile.

    A descriptor, and whether the file may be executed: of many small files, an object around each
    costs as much as to read them.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise NotStorable(f"'{path}' is no file any more.")
    return descriptor, bool(mode & stat.S_IXUSR)
