"""What lies in the folder here: every file with the id that its content has in the drive.

A file whose size, times, inode and mode are those of the last time is not read again.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tesra.sdk.sync.ignoring import Ignored
from tesra.storage.assembling import cut_file
from tesra.storage.format import EpochKeys
from tesra.storage.sending import Source
from tesra.storage.tree import Link, content_id, link_stays_inside

_SETTLED_NS = 1_000_000_000  # a file changed later than this before it was read may change unseen


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells that a file was not touched."""

    size: int
    modified_ns: int
    changed_ns: int
    inode: int
    mode: int

    @property
    def settled(self) -> bool:
        return max(self.modified_ns, self.changed_ns) < time.time_ns() - _SETTLED_NS


@dataclass(frozen=True, slots=True)
class Seen:
    """A file or link as it was found; ``stamp`` was taken before it was read."""

    content: str
    stamp: Stamp


class Naming:
    """Names contents as the drive does; ``keys`` are asked for when the first file is read."""

    def __init__(self, keys: Callable[[], EpochKeys]) -> None:
        self._keys = keys

    def offer(self, plain: bytes, source: Source | None = None) -> bytes:  # noqa: ARG002  # as ChunkSender has it
        return self._keys().chunk_id(plain)

    def file(self, path: Path) -> str:
        with path.open("rb", buffering=0) as file:
            executable = bool(os.fstat(file.fileno()).st_mode & stat.S_IXUSR)
            return content_id(cut_file(self, file, name="", executable=executable)).hex()


def stamp_of(path: Path) -> Stamp | None:
    """None where no file or link is."""
    try:
        known = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(known.st_mode):
        return None
    return Stamp(known.st_size, known.st_mtime_ns, known.st_ctime_ns, known.st_ino, known.st_mode)


def scan(
    root: Path,
    ignored: Ignored,
    known: Mapping[str, Seen],
    naming: Naming,
    warn: Callable[[str], None],
) -> dict[str, Seen]:
    """Every file and link below ``root``, by its path with slashes."""
    found: dict[str, Seen] = {}
    for path in _paths(root, "", ignored):
        place = root / path
        stamp = stamp_of(place)
        if stamp is None:
            continue  # gone since it was listed
        before = known.get(path)
        if before is not None and before.stamp == stamp:
            found[path] = before
            continue
        try:
            content = _content(place, path, stamp, naming, warn)
        except FileNotFoundError:
            continue  # gone since it was looked at
        if content is not None:
            found[path] = Seen(content, stamp)
    return found


def _content(
    place: Path, path: str, stamp: Stamp, naming: Naming, warn: Callable[[str], None]
) -> str | None:
    """The name of what is there; None for what is left out, with a warning."""
    if stat.S_ISREG(stamp.mode):
        return naming.file(place)
    if stat.S_ISLNK(stamp.mode):
        target = str(place.readlink())
        if link_stays_inside(path.count("/"), target):
            return content_id(Link("", target)).hex()
        warn(f"the link '{path}' leads out of the folder: left out")
        return None
    warn(f"'{path}' is neither file, folder nor link: left out")
    return None


def _paths(root: Path, folder: str, ignored: Ignored) -> Iterator[str]:
    try:
        with os.scandir(root / folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        if folder:
            return  # gone since it was listed
        raise
    for entry in listed:
        path = f"{folder}/{entry.name}" if folder else entry.name
        if entry.is_dir(follow_symlinks=False):
            if not ignored.hides(path, folder=True):
                yield from _paths(root, path, ignored)
        elif not ignored.hides(path):
            yield path
