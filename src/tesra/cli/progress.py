"""What moves on a terminal: bars for transfers, and the spinner of a run that is being followed."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.status import Status
from rich.text import Text

from tesra.storage.progress import Progress as Transferred
from tesra.storage.progress import Report


@contextmanager
def transfer_bar(doing: str, total_bytes: int | None = None) -> Iterator[Report]:
    """A bar on stderr that is gone when the transfer is done; the total may be told later."""
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(doing, total=total_bytes)

        def report(now: Transferred) -> None:
            bar.update(task, completed=now.done_bytes, total=now.total_bytes or total_bytes)

        yield report


class TerminalVoice:
    """Tesra's own words beside a script's output: dim lines, and a spinner while nothing runs."""

    interrupts = True

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._status: Status | None = None

    def say(self, text: str) -> None:
        """One dim line."""
        self._console.print(Text(text, style="dim"), soft_wrap=True)

    def wait(self, text: str) -> None:
        """Spin with these words until something else is shown."""
        if self._status is None:
            self._status = self._console.status(Text(text, style="dim"))
            self._status.start()
        else:
            self._status.update(Text(text, style="dim"))

    def quiet(self) -> None:
        """Take the spinner away: somebody else writes to the terminal now."""
        if self._status is not None:
            self._status.stop()
            self._status = None
