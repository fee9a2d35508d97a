"""Whether a script has read what was brought back for it: only then did it go on from there.

The files are held by descriptors, which a script that replaces them can't shake off. What is
looked at is the time of the last access, set back beforehand: nobody but a reader moves it on. On
a file system that keeps no such times nothing is known.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_LONG_AGO_NS = 1_000_000_000  # a second after the epoch: older than any write
_MOST = 256
_HOLD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC  # to hold is not to read


class ReadWatch:
    """Watches from when it is made, at most 256 files; ``close`` it."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._held: list[int] = []
        self._read = False
        for path in files:
            if len(self._held) == _MOST:
                break
            with suppress(OSError):
                written_ns = path.lstat().st_mtime_ns
                os.utime(path, ns=(_LONG_AGO_NS, written_ns), follow_symlinks=False)
                self._held.append(os.open(path, _HOLD))

    def was_read(self) -> bool:
        """Whether anybody has read any of the files by now."""
        self._read = self._read or any(
            os.fstat(descriptor).st_atime_ns != _LONG_AGO_NS for descriptor in self._held
        )
        return self._read

    def close(self) -> None:
        while self._held:
            os.close(self._held.pop())


def tells(folder: Path) -> bool:
    """Whether the file system of a folder of ours says when a file was read."""
    probe = folder / "probe"
    probe.write_bytes(b"?")
    try:
        watch = ReadWatch([probe])
        probe.read_bytes()
        try:
            return watch.was_read()
        finally:
            watch.close()
    finally:
        probe.unlink()
