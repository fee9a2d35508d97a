"""What ``tesra up`` shows while it works: a moving line on a terminal, plain lines in a pipe."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status


class EndAsked(Exception):
    """Ctrl-C, or SIGTERM, before everything was ready."""


class Progress:
    """Says what is being done, on stderr, so that stdout carries the answer alone."""

    def __init__(self, asked_to_end: Callable[[], bool]) -> None:
        self._asked_to_end = asked_to_end
        self._console = Console(stderr=True, highlight=False)
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

    def say(self, text: str) -> None:
        """What is being done now; raises ``EndAsked`` when somebody wants us to end instead."""
        if self._asked_to_end():
            raise EndAsked
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
