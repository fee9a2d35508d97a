"""How much a transfer will be, and how much it was."""

import os
from pathlib import Path

from tesra.cli import words
from tesra.storage.progress import Progress, Report


class Tally:
    """Passes on how far a transfer is, and remembers it."""

    def __init__(self, show: Report) -> None:
        self._show = show
        self._last: Progress | None = None

    def report(self, now: Progress) -> None:
        self._last = now
        self._show(now)

    @property
    def words(self) -> str:
        """``3 files, 2.9 MiB, 1.1 MiB sent``; empty when nothing was reported."""
        if self._last is None:
            return ""
        size, sent = words.size(self._last.done_bytes), words.size(self._last.moved_bytes)
        return f"{words.plural(self._last.done_files, 'file')}, {size}, {sent} sent"


def extent(source: Path) -> int:
    """The bytes of a file, or of all files below a folder; what can't be looked at has none."""
    if not source.is_dir():
        return source.stat().st_size
    size, folders = 0, [os.fspath(source)]
    while folders:
        try:
            with os.scandir(folders.pop()) as found:
                for entry in found:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        size += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return size
