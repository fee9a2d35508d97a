"""Large files written past the page cache: what nobody reads soon costs no memory, and no copying.

A gibibyte into the page cache costs up to two seconds of a core where memory is virtual, and
pushes out what others read; past it a tenth of that. Where a disk can't (a file system in
memory), it is written as ever.
"""

import fcntl
import mmap
import os
from pathlib import Path
from types import TracebackType
from typing import Self

ALIGNMENT_BYTES = 4096
_BUFFER_BYTES = 2 * 2**20
_DIRECT = getattr(os, "O_DIRECT", 0)


class UnbufferedFile:
    """A new file that grows from its beginning: fill ``room``, say how much, ``finish``.

    Not fsynced. Errors are ``OSError``.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = _open(path)
        self._buffer = mmap.mmap(-1, _BUFFER_BYTES)  # begins where a page does
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    @property
    def room(self) -> memoryview:
        """Where the file's next bytes go; never empty."""
        return self._view[self._filled :]

    def advance(self, count: int) -> memoryview:
        """``count`` bytes of ``room`` are the file's now: these, until ``room`` is asked for."""
        fresh = self._view[self._filled : self._filled + count]
        self._filled += count
        self._size += count
        if self._filled == _BUFFER_BYTES:
            self._write(_BUFFER_BYTES)
        return fresh

    def finish(self) -> None:
        """The rest goes to the disk; the file has just the bytes that came."""
        if self._filled:
            self._write(-(-self._filled // ALIGNMENT_BYTES) * ALIGNMENT_BYTES)
            os.ftruncate(self._descriptor, self._size)

    def _write(self, count: int) -> None:
        left = self._view[:count]
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except OSError:
                if not _made_usual(self._descriptor):
                    raise
        self._filled = 0


def _open(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        return os.open(path, flags | _DIRECT, 0o666)
    except OSError:
        return os.open(path, flags, 0o666)


def _made_usual(descriptor: int) -> bool:
    """Take the page cache from now on; whether that was not so already."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    if not flags & _DIRECT:
        return False
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~_DIRECT)
    return True
