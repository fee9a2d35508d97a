"""Tables and facts on a terminal. Text is shown as it is: what a user named can't be markup."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

_STATES = {
    "succeeded": "green",
    "completed": "green",
    "finished": "green",
    "pruned": "yellow",
    "paid": "green",
    "failed": "red",
    "unpaid": "red",
    "stopped": "yellow",
    "running": "cyan",
    "preparing": "cyan",
    "placing": "cyan",
}


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str]) -> None:
    """A light table as wide as it needs to be."""
    Console(highlight=False).print(_table(headers, rows, right))


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str]) -> Table:
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for index, header in enumerate(headers):
        side: Literal["left", "right"] = "right" if header in right else "left"
        whole = index == 0  # an id or a name: to be copied
        drawn.add_column(header, justify=side, overflow="fold", no_wrap=whole)
    for row in rows:
        drawn.add_row(*(_cell(cell) for cell in row))
    return drawn


def facts(rows: Sequence[tuple[str, str]]) -> None:
    """Names dim on the left, values on the right."""
    grid = Table.grid(padding=(0, 2))
    for name, value in rows:
        grid.add_row(Text(name, style="dim"), _cell(value))
    Console(highlight=False).print(grid)


def _cell(text: str) -> Text:
    return Text(text, style=_STATES.get(text, ""))


Draw = Callable[[Sequence[str], Sequence[Sequence[str]], Collection[str], str], None]


@contextmanager
def moving_table() -> Iterator[Draw]:
    """A table that is drawn anew in its place; the last one stays."""
    with Live(console=Console(highlight=False), auto_refresh=False) as live:

        def draw(
            headers: Sequence[str],
            rows: Sequence[Sequence[str]],
            right: Collection[str],
            caption: str,
        ) -> None:
            drawn = _table(headers, rows, right)
            live.update(Group(drawn, Text(caption, style="dim")), refresh=True)

        yield draw
