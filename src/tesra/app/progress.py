"""What ``tesra up`` shows while it works: a moving line on a terminal, plain lines in a pipe."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status


class Progress:
    """Says what is being done, on stderr, so that stdout carries the answer alone."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._status: Status | None = None
        self._last = ""
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status = self._console.status("Starting")
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()
        sys.stderr.flush()

    def say(self, text: str) -> None:
        """What is being done now."""
        if text == self._last:
            return
        self._last = text
        if self._status is not None:
            self._status.update(f"{text} …")
        else:
            self._console.print(f"{text} …", soft_wrap=True)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began
