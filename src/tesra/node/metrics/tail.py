"""Reads what a script appends to its files, trusting nothing about them.

No link is followed on any part of the way, nothing but a plain file is opened, and no call waits
for anybody: a link, a pipe or a folder in a file's place reads as an empty file. Memory is bounded
by what a caller asks for. A file that was replaced, or has shrunk, begins anew.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(slots=True)
class Tail:
    """A file below ``root`` (which is ours); ``offset`` is where the next read begins."""

    root: Path
    name: str
    offset: int = 0
    inode: int = 0
    anew: bool = False
    skipped: bool = False
    size: int = 0
    _to_skip: int = 0

    def skip(self, count: int) -> None:
        """Leave these bytes out, as soon as they are there."""
        self._to_skip += count

    def read(self, limit: int, *, newest: bool = False) -> bytes:
        """At most ``limit`` new bytes, or with ``newest`` the last ones: ``skipped`` tells of a gap.

        ``anew``: they are another file's beginning. ``size`` is the file's then.
        """
        self.anew = self.skipped = False
        self.size = 0
        try:
            descriptor = open_below(self.root, self.name)
        except OSError:
            return b""
        try:
            known = os.fstat(descriptor)
            if not stat.S_ISREG(known.st_mode):
                return b""
            self._compare(known)
            step = min(self._to_skip, max(0, known.st_size - self.offset))
            self.offset, self._to_skip = self.offset + step, self._to_skip - step
            if newest and known.st_size - self.offset > limit:
                self.offset, self.skipped = known.st_size - limit, True
            data = os.pread(descriptor, limit, self.offset)
        except OSError:
            return b""
        finally:
            os.close(descriptor)
        self.offset += len(data)
        return data

    @property
    def left(self) -> bool:
        """Whether the last read has left something."""
        return self.size > self.offset

    def _compare(self, known: os.stat_result) -> None:
        if (self.inode and known.st_ino != self.inode) or known.st_size < self.offset:
            self.offset, self.anew, self._to_skip = 0, True, 0
        self.inode, self.size = known.st_ino, known.st_size


def open_below(root: Path, name: str) -> int:
    """A descriptor of ``root/name``, no link followed below ``root``; raises ``OSError``."""
    *folders, last = name.split("/")
    inside = os.open(root, _FOLDER)
    try:
        for folder in folders:
            outside, inside = inside, os.open(folder, _FOLDER, dir_fd=inside)
            os.close(outside)
        return os.open(last, _FILE, dir_fd=inside)
    finally:
        os.close(inside)


class Lines:
    """Cuts what is read into whole lines; the beginning of a line waits for its end.

    A line longer than ``limit`` is dropped, and ``overlong`` set.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = b""
        self._dropping = False
        self.overlong = False

    @property
    def waiting(self) -> int:
        """How many bytes wait for their line's end."""
        return len(self._rest)

    def forget(self, *, inside: bool = False) -> None:
        """What comes next is no continuation; ``inside``: it begins amid a line."""
        self._rest, self._dropping = b"", inside

    def cut(self, data: bytes) -> list[bytes]:
        """The lines that are whole now, without their ends."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = _last_states(self._rest)
        if self._dropping and lines:
            del lines[0]
            self._dropping = False
        if self._dropping or len(self._rest) > self._limit:
            self._dropping, self.overlong, self._rest = True, True, b""
        return lines

    def moving(self) -> bytes:
        """The last whole state of a line that is written again and again, as progress bars are."""
        return self._rest.rpartition(b"\r")[0]

    def last(self) -> list[bytes]:
        """What is left when the file has ended without a line's end."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


def _last_states(line: bytes) -> bytes:
    """Of a line that is written again and again: its last whole state, and what has come of the next."""
    end = line.rfind(b"\r")
    return line[line.rfind(b"\r", 0, end) + 1 :] if end > 0 else line
