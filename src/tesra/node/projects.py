"""Snapshots on a node: fetched once, then copied into each attempt's workspace.

A script may write to its files, so an attempt never shares them with the cache: they are cloned
where the file system can (no bytes move), else copied.
"""

import asyncio
import fcntl
import logging
import os
import shutil
import uuid
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from threading import Event

from tesra.kit.errors import Unavailable
from tesra.node.near_packs import Fetch
from tesra.sdk.transfer import HttpDoor, Progress, fetch_snapshot

KEPT_SNAPSHOTS = 24
_FICLONE = 0x40049409  # ioctl of linux/fs.h: share the blocks, copy on write
_DRAFT = "draft-"
_RETRY_S = 2.0

_log = logging.getLogger(__name__)


class _Abandoned(BaseException):
    """Nobody waits for this transfer any more; not an error that anything should handle."""


class ProjectCache:
    """The snapshots that this node has seen; one per agent, the least recently used go first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def clean(self) -> None:
        """Remove what an agent that died left half fetched."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for draft in self._folder.glob(f"{_DRAFT}*"):
            shutil.rmtree(draft, ignore_errors=True)

    async def bring(
        self, door: HttpDoor, snapshot: str, root: str, dest: Path, report: Callable[[str], None]
    ) -> None:
        """Fill ``dest`` with the snapshot's files."""
        kept = self._folder / f"{snapshot}-{root[:16]}"
        async with self._locks[kept.name]:
            if not kept.exists():
                report("Fetching the project.")
                await self._fetch(door, snapshot, kept)
                await asyncio.to_thread(self._evict)
            os.utime(kept)
        await asyncio.to_thread(copy_tree, kept, dest)

    async def _fetch(self, door: HttpDoor, snapshot: str, kept: Path) -> None:
        draft = self._folder / f"{_DRAFT}{uuid.uuid4().hex}"
        await fetch_patiently(door, snapshot, draft)
        draft.rename(kept)

    def _evict(self) -> None:
        kept = [path for path in self._folder.iterdir() if not path.name.startswith(_DRAFT)]
        kept.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[KEPT_SNAPSHOTS:]:
            if not self._locks[path.name].locked():
                shutil.rmtree(path, ignore_errors=True)


async def fetch_patiently(
    door: HttpDoor, snapshot: str, dest: Path, fetch: Fetch = fetch_snapshot
) -> None:
    """Bring a snapshot into the folder ``dest``, waiting for as long as the server is away."""
    abandoned = Event()

    def watch(_: Progress) -> None:
        if abandoned.is_set():
            raise _Abandoned

    try:
        while True:
            if await asyncio.to_thread(
                _tried, lambda: fetch(door, snapshot, dest, watch), snapshot
            ):
                break
            await asyncio.sleep(_RETRY_S)
    except asyncio.CancelledError:
        abandoned.set()
        raise
    dest.mkdir(exist_ok=True)  # an empty snapshot leaves no folder


def _tried(fetch: Callable[[], None], snapshot: str) -> bool:
    """Whether it is there now; files that came before the server went away are not asked again."""
    try:
        fetch()
    except Unavailable as error:
        _log.warning("snapshot %s waits for the server: %s", snapshot, error.detail)
        return False
    return True


def copy_tree(source: Path, dest: Path) -> None:
    """Copy a folder into a folder, links as links, sharing blocks where the file system can."""
    shutil.copytree(source, dest, symlinks=True, dirs_exist_ok=True, copy_function=_clone)


def _clone(source: str, dest: str) -> str:
    if Path(source).is_symlink():
        return str(shutil.copy2(source, dest, follow_symlinks=False))
    with Path(source).open("rb") as reader, Path(dest).open("wb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        except OSError:
            shutil.copyfileobj(reader, writer, 1 << 20)
    shutil.copystat(source, dest)
    return dest
