"""Metrics as text: charts drawn with plotext, and small ones in a line of a table.

A chart is as wide as asked, has no colours unless asked for, and breaks its lines at gaps.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tesra.cli.words import width as columns_of

BARS = "▁▂▃▄▅▆▇█"
NARROWEST = 30
LOWEST = 5
_COLOURS = ("cyan", "orange", "green", "red", "magenta", "yellow", "blue", "white")
_SIGNS = ("•", "+", "x", "o", "*", "#", "%", "@")
_STYLED = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Curve:
    """``label`` is empty when there is no other in the chart; a y that is None is a gap."""

    label: str
    xs: Sequence[float]
    ys: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Canvas:
    """How much room there is (``height`` is of the curves alone), and whether it knows colours."""

    width: int
    height: int
    colour: bool = False


def chart(title: str, curves: Sequence[Curve], *, canvas: Canvas) -> str:
    """A chart of some curves; says so in one line when there is nothing to draw."""
    ys = [y for curve in curves for y in curve.ys if y is not None]
    if not ys:
        return f"{title}: nothing to draw, no value is finite."
    import plotext  # 0.3 s: only who draws pays for it

    figure: Any = plotext.figure
    figure.clear()
    figure.theme("colorless")
    width = max(canvas.width, NARROWEST)
    rows = max(LOWEST, canvas.height - (canvas.height - 1) % 4)  # a row for each tick
    figure.plot_size(width, rows + 3)
    several = len(curves) > 1
    for place, curve in enumerate(curves):
        _draw(figure, curve, _marker(place, canvas, several=several))
    _rule(figure.ruler("x"), [x for curve in curves for x in curve.xs], whole=True)
    _rule(figure.ruler("y"), ys)
    text = str(figure.build())
    figure.clear()
    drawn = [line.rstrip() for line in _uncoloured(text, canvas).splitlines()]
    names = [_legend(curves, canvas)] if several else []
    return "\n".join([fitted(title, width), *names, *drawn])


def _draw(figure: Any, curve: Curve, marker: Any) -> None:
    """Points joined by lines, but over gaps."""
    points = [(x, y) for x, y in zip(curve.xs, curve.ys, strict=True) if y is not None]
    if not points:
        return
    signal = figure.signal(*zip(*points, strict=True), marker=marker)
    signal.lines()
    for index in _behind_gaps(curve.ys):
        signal.line(index, False)
    figure.draw(signal)


def _marker(place: int, canvas: Canvas, *, several: bool) -> Any:
    """Fine dots; without colours each of several curves has a sign of its own."""
    import plotext  # see above

    if canvas.colour:
        return plotext.marker("braille", _COLOURS[place % len(_COLOURS)])
    return _SIGNS[place % len(_SIGNS)] if several else "braille"


def _legend(curves: Sequence[Curve], canvas: Canvas) -> str:
    import plotext  # see above

    signs = [_SIGNS[place % len(_SIGNS)] for place in range(len(curves))]
    if canvas.colour:
        colours = [_COLOURS[place % len(_COLOURS)] for place in range(len(curves))]
        signs = [str(plotext.colorize("━━", colour)) for colour in colours]
    return "   ".join(f"{sign} {one.label}" for sign, one in zip(signs, curves, strict=True))


def _rule(ruler: Any, values: Sequence[float], *, whole: bool = False) -> None:
    """Where the axis begins and ends, and the numbers on it."""
    low, high = min(values), max(values)
    if low == high:
        room = 1.0 if whole else abs(low) / 10 or 1.0
        ruler.lim(low - room, high + room)
        ruler.ticks([low], [ticks([low])[0]])
        return
    middle = [low + (high - low) * part for part in (0.25, 0.5, 0.75)]
    if whole:
        middle = sorted({float(round(x)) for x in middle} - {low, high})
    ruler.lim(low, high)
    ruler.ticks([low, *middle, high], ticks([low, *middle, high]))


def ticks(values: Sequence[float]) -> list[str]:
    """Numbers with as few digits as tell them apart, at least three."""
    for digits in range(3, 17):
        told = [f"{value:.{digits}g}" for value in values]
        if len(set(told)) == len(values) and all(
            not value.is_integer() or abs(value) >= 1e9 or float(text) == value
            for value, text in zip(map(float, values), told, strict=True)
        ):
            break
    return [f"{float(text):.0f}" if _plain(text) else text for text in told]


def _plain(text: str) -> bool:
    """A whole number that is better written without an exponent."""
    return "e" in text and float(text).is_integer() and abs(float(text)) < 1e9


def _uncoloured(text: str, canvas: Canvas) -> str:
    return text if canvas.colour else _STYLED.sub("", text)


def _behind_gaps(ys: Sequence[float | None]) -> Iterator[int]:
    """Which of the values that are there come behind one that is not."""
    index = 0
    for before, y in zip([0.0, *ys], ys, strict=False):
        if y is not None:
            if before is None:
                yield index
            index += 1


def sparkline(ys: Sequence[float | None], width: int = 16) -> str:
    """The course of some values in a line of so many characters at most; a gap is a blank."""
    shown = ys if len(ys) <= width else [_middle(ys, at, width) for at in range(width)]
    finite = [y for y in shown if y is not None]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    step = (high - low) / (len(BARS) - 1)
    if not (step > 0 and math.isfinite(step)):  # all the same, or too far apart to count
        return "".join(" " if y is None else BARS[3] for y in shown)
    return "".join(" " if y is None else BARS[round((y - low) / step)] for y in shown)


def fitted(text: str, room: int) -> str:
    """The text, with its end left out if it takes more columns than there are."""
    if columns_of(text) <= room:
        return text
    kept = text
    while kept and columns_of(kept) > room - 1:
        kept = kept[:-1]
    return f"{kept}…"


def _middle(ys: Sequence[float | None], at: int, width: int) -> float | None:
    """The mean of one of ``width`` equal parts; None when it holds no value."""
    part = ys[len(ys) * at // width : len(ys) * (at + 1) // width]
    finite = [y for y in part if y is not None]
    return math.fsum(finite) / len(finite) if finite else None
