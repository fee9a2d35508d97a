"""What a running script has written, looked at without ever following a link.

The script may swap a folder for a link between two looks, so every step of a path is opened from
the folder above it; nothing but plain files is listed or opened.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

MAX_FILES = 10_000
MAX_DEPTH = 24

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Seen:
    """A plain file at one look; ``ctime_ns`` can't be set by a script, ``mtime_ns`` can."""

    size: int
    mtime_ns: int
    inode: int
    ctime_ns: int

    @property
    def key(self) -> tuple[int, int, int]:
        """Differs when the content may differ."""
        return (self.size, self.mtime_ns, self.inode)


def seen_of(known: os.stat_result) -> Seen:
    return Seen(known.st_size, known.st_mtime_ns, known.st_ino, known.st_ctime_ns)


def look(root: Path, folder: str) -> dict[str, Seen]:
    """The plain files below ``root/folder`` by their paths within it; at most ``MAX_FILES``.

    ``root`` itself is the caller's own; a folder that is none, or is gone, holds nothing.
    """
    found: dict[str, Seen] = {}
    with suppress(OSError), _opened(root, _parts(folder)) as descriptor:
        for name, seen in _walk(descriptor, "", 0):
            found[name] = seen
            if len(found) >= MAX_FILES:
                break
    return found


def look_at(root: Path, path: str) -> Seen | None:
    """The plain file at ``root/path``, if there is one."""
    *above, name = _parts(path)
    with suppress(OSError), _opened(root, above) as folder:
        known = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(known.st_mode):
            return seen_of(known)
    return None


def open_plain(root: Path, path: str) -> int | None:
    """A descriptor of the plain file at ``root/path``; it holds on to this very file."""
    *above, name = _parts(path)
    with suppress(OSError), _opened(root, above) as folder:
        descriptor = _open(name, folder)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
    return None


def _open(name: str, folder: int) -> int:
    """Without a trace in the file's time of access, which tells whether the *script* has read it."""
    try:
        return os.open(name, _PLAIN | os.O_NOATIME, dir_fd=folder)
    except PermissionError:  # for the owner and root alone
        return os.open(name, _PLAIN, dir_fd=folder)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


@contextmanager
def _opened(root: Path, parts: Sequence[str]) -> Iterator[int]:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            below = os.open(part, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _walk(folder: int, prefix: str, depth: int) -> Iterator[tuple[str, Seen]]:
    """What vanishes meanwhile is left out; names that are no UTF-8 can't be stored."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        try:
            name.encode()
            known = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except (OSError, UnicodeEncodeError):
            continue
        if stat.S_ISREG(known.st_mode):
            yield prefix + name, seen_of(known)
        elif stat.S_ISDIR(known.st_mode) and depth < MAX_DEPTH:
            with suppress(OSError):
                below = os.open(name, _FOLDER, dir_fd=folder)
                try:
                    yield from _walk(below, f"{prefix}{name}/", depth + 1)
                finally:
                    os.close(below)
