"""The drive's verbs over a tree in memory: the real changes of trees, without a server."""

from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3

from tesra.drive.files.changing import Batch
from tesra.storage.editing import TreeEditor, parse_path, show_path
from tesra.storage.tree import Entry, File, Folder, content_id
from tesra.wire.files import Change, DriveEntry, DriveHead


class MemoryDrive:
    """Every version is kept; contents lie inline, whatever their size."""

    def __init__(self) -> None:
        self._chunks: dict[bytes, bytes] = {}
        self._editor = TreeEditor(self._chunks.__getitem__, self._store)
        self._roots = [self._editor.empty()]

    def drive_head(self) -> DriveHead:
        root = self._roots[-1].hex()
        return DriveHead(drive="drv_1", version=len(self._roots), epoch="ep_1", root=root)

    def drive_entry(self, path: str, *, version: int | None = None) -> DriveEntry:
        parts = parse_path(path)
        return _told(parts, self._editor.require(self._root(version), parts))

    def drive_list(self, path: str = "/") -> Iterator[DriveEntry]:
        parts = parse_path(path)
        found = self._editor.require(self._roots[-1], parts)
        if not isinstance(found, Folder):
            yield _told(parts, found)
            return
        for below in self._editor.listing(found.tree):
            yield _told((*parts, below.name), below)

    def drive_read(self, path: str, *, version: int | None = None) -> Iterator[bytes]:
        found = self._editor.require(self._root(version), parse_path(path))
        assert isinstance(found, File)
        yield found.inline or b""

    def drive_read_range(
        self, path: str, start: int, end: int, *, version: int | None = None
    ) -> bytes:
        return b"".join(self.drive_read(path, version=version))[start:end]

    def drive_put_file(self, source: Path, path: str) -> None:
        parts, content = parse_path(path), source.read_bytes()
        entry = File(parts[-1], False, len(content), inline=content)
        self._roots.append(self._editor.edit(self._roots[-1], {parts: entry}))

    def drive_change(self, *changes: Change) -> None:
        self._roots.append(Batch(self._editor, self._roots[-1], {}).apply(changes))

    def _root(self, version: int | None) -> bytes:
        return self._roots[(version or len(self._roots)) - 1]

    def _store(self, plain: bytes) -> bytes:
        chunk_id = blake3(plain).digest()
        self._chunks[chunk_id] = plain
        return chunk_id


def _told(parts: tuple[str, ...], entry: Entry) -> DriveEntry:
    kind = {File: "file", Folder: "dir"}[type(entry)]
    return DriveEntry(
        path=show_path(parts),
        name=parts[-1] if parts else "",
        kind=kind,
        size_bytes=entry.size if isinstance(entry, File) else 0,
        content=content_id(entry).hex(),
    )
