"""Data on a node: each snapshot once, read-only, shared by every rank and every later run.

What is kept is checked before it is given out: by size and times at every use, by hash when it is
first used after a start of the node. Nothing that a run uses is ever evicted.
"""

import asyncio
import json
import os
import shutil
import stat
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3

from tesra.kit.errors import Invalid
from tesra.kit.sizes import show_size
from tesra.node.data_places import data_places
from tesra.node.near_packs import Fetch
from tesra.node.projects import fetch_patiently
from tesra.node.workspace import AttemptFolders
from tesra.sdk.transfer import HttpDoor, fetch_snapshot
from tesra.wire.data import RunData

_DRAFT = "draft-"
_FILES, _MANIFEST = "files", "manifest.json"
_RESERVE = 0.05  # of the disk stays free, whatever the cache may hold
_READ_BYTES = 1 << 20


class DataTooLarge(Invalid):
    """The data of this run does not fit on the node's disk."""


class DataCache:
    """One per agent; ``limit_bytes`` in all, by default half of the disk that it lies on."""

    def __init__(
        self,
        folder: Path,
        node: str,
        limit_bytes: int | None = None,
        *,
        fetch: Fetch = fetch_snapshot,
    ) -> None:
        self._fetch = fetch
        self._folder = folder
        self._node = node
        self._limit_bytes = limit_bytes
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._room = asyncio.Lock()
        self._coming: dict[str, int] = {}
        self._users: defaultdict[str, set[str]] = defaultdict(set)
        self._checked: set[str] = set()

    def clean(self) -> None:
        """Remove what an agent that died left half fetched."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for draft in self._folder.glob(f"{_DRAFT}*"):
            shutil.rmtree(draft, ignore_errors=True)

    async def bring(
        self,
        door: HttpDoor,
        attempt: str,
        data: Sequence[RunData],
        folders: AttemptFolders,
        say: Callable[[str], None],
    ) -> None:
        """All of an attempt's data at ``data_places``; until ``release`` none of it goes."""
        for one, place in zip(data, data_places(folders, data), strict=True):
            key = _key(one)
            self._users[key].add(attempt)
            async with self._locks[key]:
                kept = await self._ensure(door, one, say)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            place.symlink_to(kept / _FILES)

    def release(self, attempt: str) -> None:
        """The attempt is over."""
        for users in self._users.values():
            users.discard(attempt)

    async def _ensure(self, door: HttpDoor, data: RunData, say: Callable[[str], None]) -> Path:
        key = _key(data)
        kept = self._folder / key
        if kept.exists():
            whole = key not in self._checked
            if await asyncio.to_thread(is_intact, kept, by_hash=whole):
                self._checked.add(key)
                os.utime(kept)
                say(f"The data of {data.path} is here already.")
                return kept
            say(f"The copy of {data.path} on this node was damaged: it is fetched anew.")
            await asyncio.to_thread(shutil.rmtree, kept)
        async with self._room:
            await asyncio.to_thread(self._make_room, data)
            self._coming[key] = data.size_bytes
        try:
            files = "file" if data.file_count == 1 else "files"
            size = show_size(data.size_bytes)
            say(f"Fetching the data of {data.path}: {data.file_count} {files}, {size}.")
            draft = self._folder / f"{_DRAFT}{uuid.uuid4().hex}"
            draft.mkdir(mode=0o755)
            await fetch_patiently(door, key, draft / _FILES, self._fetch)
            await asyncio.to_thread(_seal, draft)
            draft.rename(kept)
        finally:
            del self._coming[key]
        self._checked.add(key)
        return kept

    def _make_room(self, data: RunData) -> None:
        """Evict the least recently used that nobody uses, until there is room; or say there is none."""
        disk = shutil.disk_usage(self._folder)
        limit = disk.total // 2 if self._limit_bytes is None else self._limit_bytes
        kept = [path for path in self._folder.iterdir() if not path.name.startswith(_DRAFT)]
        sizes = {path: _size_of(path) for path in sorted(kept, key=lambda at: at.stat().st_mtime)}
        coming = sum(self._coming.values())
        total = sum(sizes.values()) + coming
        free = disk.free - coming - int(disk.total * _RESERVE)
        for path, size in sizes.items():
            if total + data.size_bytes <= limit and data.size_bytes <= free:
                return
            if not self._users.get(path.name):
                shutil.rmtree(path)
                self._checked.discard(path.name)
                total, free = total - size, free + size
        room = min(limit - total, free)
        if data.size_bytes > room:
            raise DataTooLarge(
                f"The data of {data.path} has {show_size(data.size_bytes)}, and node {self._node}"
                f" has room for {show_size(max(0, room))}.",
                way_out="Split it, or ask for a device class whose nodes have larger disks.",
            )


def _key(data: RunData) -> str:
    """The snapshot: the server gives one for each content of a drive, and none to two drives.

    A root alone would not do: under keys of one's own, anybody can make a tree claim any root.
    """
    assert data.snapshot is not None  # as the server says it
    return data.snapshot


def is_intact(kept: Path, *, by_hash: bool) -> bool:
    """Whether every file is as it was fetched, and no other is there."""
    try:
        manifest = json.loads((kept / _MANIFEST).read_bytes())
        stored: dict[str, Any] = manifest["files"]
        found = dict(_files(kept / _FILES))
        if found.keys() != stored.keys():
            return False
        return all(_is_as(path, stored[name], by_hash=by_hash) for name, path in found.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _seal(draft: Path) -> None:
    """Read-only for everybody, with a list of what there is."""
    root = draft / _FILES
    root.chmod(0o755)
    files: dict[str, tuple[int, int, str]] = {}
    size_bytes = 0
    for name, path in _files(root):
        known = path.lstat()
        if stat.S_ISREG(known.st_mode):
            path.chmod(0o555 if known.st_mode & stat.S_IXUSR else 0o444)
            size_bytes += known.st_size
        files[name] = (known.st_size, known.st_mtime_ns, _hash(path))
    for folder in root.rglob("*"):
        if folder.is_dir() and not folder.is_symlink():
            folder.chmod(0o755)
    (draft / _MANIFEST).write_text(json.dumps({"size_bytes": size_bytes, "files": files}))


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """Files and links by their names below ``root``; no link is followed."""
    for folder, folders, names in os.walk(root):
        for name in (*names, *(one for one in folders if Path(folder, one).is_symlink())):
            path = Path(folder, name)
            yield path.relative_to(root).as_posix(), path


def _is_as(path: Path, stored: list[Any], *, by_hash: bool) -> bool:
    known = path.lstat()
    size, written_ns, content = stored
    if (known.st_size, known.st_mtime_ns) != (size, written_ns):
        return False
    return not by_hash or _hash(path) == str(content)


def _hash(path: Path) -> str:
    hasher = blake3()
    if path.is_symlink():
        return hasher.update(os.fsencode(path.readlink())).hexdigest()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_READ_BYTES):
            hasher.update(piece)
    return hasher.hexdigest()


def _size_of(kept: Path) -> int:
    try:
        return int(json.loads((kept / _MANIFEST).read_bytes())["size_bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
