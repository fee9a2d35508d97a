"""What a command shows: JSON with ``--json``, rich on a terminal, plain lines in a pipe.

Answers go to stdout; everything said about them goes to stderr. rich is loaded only when a
terminal is there to see it: it costs more than most commands.
"""

import io
import json
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from tesra.cli.words import one_line, visible, width
from tesra.kit.errors import TesraError
from tesra.storage.progress import Report, silent

if TYPE_CHECKING:
    from pydantic import BaseModel

Row = Sequence[str]


class Output:
    """Where one command shows its result."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.on_terminal = is_terminal(sys.stdout)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a log may hold what a terminal can't show

    def answer(self, data: Any, draw: Callable[[], None]) -> None:
        """The result: its data with ``--json``, else as ``draw`` draws it."""
        if self.as_json:
            self.json(data)
        else:
            draw()

    def json(self, data: Any, *, one_line: bool = False) -> None:
        """Stable keys; indented for people, one line for programs."""
        indent = 2 if self.on_terminal and not one_line else None
        sys.stdout.write(json.dumps(plain(data), ensure_ascii=False, indent=indent) + "\n")
        sys.stdout.flush()

    def table(
        self, headers: Row, rows: Sequence[Row], *, right: Collection[str] = (), empty: str = ""
    ) -> None:
        """Rows under headers; ``right`` names the columns of numbers."""
        if not rows:
            self.say(empty or "None.")
            return
        rows = [[visible(cell) for cell in row] for row in rows]
        if self.on_terminal:
            _pretty().table(headers, rows, right)
        else:
            for line in columns([headers, *rows], [header in right for header in headers]):
                self.say(line)

    def facts(self, rows: Iterable[tuple[str, str]]) -> None:
        """Names and values, a line each."""
        rows = [(name, visible(value, keep="\n")) for name, value in rows]
        if self.on_terminal:
            _pretty().facts(rows)
        else:
            for line in columns([(f"{name}:", value) for name, value in rows], [False, False]):
                self.say(line)

    def say(self, text: str) -> None:
        sys.stdout.write(text + "\n")

    def flush(self) -> None:
        """Show what has been said so far, though the command goes on."""
        sys.stdout.flush()

    def aside(self, text: str) -> None:
        """Said about the result, not part of it."""
        sys.stdout.flush()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    @contextmanager
    def waiting(self) -> Iterator[Callable[[str], None]]:
        """Shows what is waited for, on a terminal, until the block ends."""
        if self.as_json or not is_terminal(sys.stderr):
            yield lambda _: None
            return
        from tesra.cli.progress import TerminalVoice  # rich: see above

        voice = TerminalVoice()
        try:
            yield voice.wait
        finally:
            voice.quiet()

    @contextmanager
    def transfer(
        self, doing: str, total_bytes: Callable[[], int | None] = lambda: None
    ) -> Iterator[Report]:
        """Shows how far a transfer is, on a terminal; there alone ``total_bytes`` is asked for."""
        try:
            if self.as_json or not is_terminal(sys.stderr):
                yield silent
                return
            from tesra.cli.progress import transfer_bar  # rich: see above

            with transfer_bar(doing, total_bytes()) as report:
                yield report
        except KeyboardInterrupt:
            self.aside(
                "Interrupted. What has arrived is kept: the same command goes on from there."
            )
            raise


def is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def plain(data: Any) -> Any:
    """Models as what JSON can hold."""
    if hasattr(data, "model_dump"):
        model: BaseModel = data
        return model.model_dump(mode="json")
    if isinstance(data, dict):
        return {name: plain(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [plain(item) for item in data]
    return data


def columns(rows: Sequence[Row], right: Sequence[bool]) -> list[str]:
    """Lines of aligned columns, two spaces between them."""
    widths = [max(width(row[index]) for row in rows) for index in range(len(right))]
    return [
        "  ".join(
            _padded(cell, wanted, to_right=to_right)
            for cell, wanted, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]


def _padded(cell: str, wanted: int, *, to_right: bool) -> str:
    blanks = " " * (wanted - width(cell))
    return blanks + cell if to_right else cell + blanks


def complaint(error: TesraError) -> str:
    """One line: what is wrong, and the way out."""
    return visible(one_line(f"{error.detail} {error.way_out or ''}"))


def _pretty() -> Any:
    from tesra.cli import pretty  # rich: see above

    return pretty
