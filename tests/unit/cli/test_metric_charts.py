"""Charts as text: as wide as asked, without colours unless asked for, whole with gaps."""

import math

import pytest

from tesra.cli.charts import Canvas, Curve, chart, fitted, sparkline, ticks
from tesra.cli.words import number, width

WAVE = [math.sin(step / 10) for step in range(200)]


@pytest.mark.parametrize("columns", [10, 40, 120])
def test_a_chart_is_no_wider_than_the_terminal(columns: int) -> None:
    drawn = chart("loss", [Curve("", range(200), WAVE)], canvas=Canvas(columns, 9))
    assert all(width(line) <= max(columns, 30) for line in drawn.splitlines())
    assert "\x1b" not in drawn


def test_only_a_terminal_gets_colours() -> None:
    curves = [Curve("rank 0", range(200), WAVE), Curve("rank 1", range(200), WAVE)]
    assert "\x1b[" in chart("loss", curves, canvas=Canvas(60, 9, colour=True))
    plain = chart("loss", curves, canvas=Canvas(60, 9))
    assert "• rank 0   + rank 1" in plain


def test_a_gap_is_not_bridged() -> None:
    def columns_drawn(ys: list[float | None]) -> int:
        rows = chart("x", [Curve("", range(len(ys)), ys)], canvas=Canvas(60, 9)).splitlines()
        lines = [row.split("│")[1] if "│" in row else "" for row in rows[2:-2]]
        return sum(any(len(row) > at and row[at] != " " for row in lines) for at in range(55))

    whole: list[float | None] = list(WAVE[:31])
    broken = [None if 5 < step < 25 else y for step, y in enumerate(whole)]
    assert columns_drawn(broken) < columns_drawn(whole) / 2


@pytest.mark.parametrize("ys", [[1.0], [None, 1.0, None], [5.0] * 3, [1e-300, 1e300], [0.0, -1e-9]])
def test_what_is_hardly_a_curve_is_drawn_too(ys: list[float | None]) -> None:
    assert "┤" in chart("x", [Curve("", range(len(ys)), ys)], canvas=Canvas(60, 9))


def test_nothing_finite_is_said_in_words() -> None:
    assert "no value is finite" in chart(
        "x", [Curve("", [1, 2], [None, None])], canvas=Canvas(60, 9)
    )


def test_a_sparkline_fits_and_shows_gaps() -> None:
    assert sparkline([0, 1, None, 3]) == "▁▃ █"
    assert len(sparkline(WAVE, 16)) == 16
    assert sparkline([2.0, 2.0]) == "▄▄"
    assert sparkline([None]) == ""
    assert sparkline([-1e308, 1e308]) == "▄▄"  # further apart than a double can say


def test_ticks_tell_numbers_apart_with_few_digits() -> None:
    assert ticks([0.0, 0.25, 1.0]) == ["0", "0.25", "1"]
    assert ticks([0.50001, 0.50002]) == ["0.50001", "0.50002"]
    assert ticks([0, 123456, 2000000]) == ["0", "123456", "2000000"]


def test_numbers_are_said_with_four_digits() -> None:
    told = [number(value) for value in (0.123456, 12345, 1e-12, "nan", None, 1e300, 20000.5)]
    assert told == ["0.1235", "12345", "1e-12", "nan", "-", "1e+300", "20000"]


def test_a_long_title_is_cut_to_the_columns_it_takes() -> None:
    assert width(fitted("损失" * 50, 21)) <= 21
    assert fitted("short", 21) == "short"
