"""How much a transfer was, told when it is done."""

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
