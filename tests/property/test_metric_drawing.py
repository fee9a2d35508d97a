"""Whatever is drawn with few points shows the lowest, the highest and every gap's neighbourhood."""

import math

from hypothesis import given
from hypothesis import strategies as st

from tesra.training.metrics.drawing import Axis, Chart
from tesra.training.metrics.points import Columns, Spot, cut, spots, summarise

VALUES = st.one_of(
    st.floats(-1e6, 1e6), st.just(math.nan), st.just(math.inf), st.integers(-3, 3).map(float)
)
POINTS = st.lists(st.tuples(st.integers(0, 5000), VALUES), min_size=1, max_size=600)
AXES = st.sampled_from(["step", "time"])


def columns_of(points: list[tuple[int, float]]) -> Columns:
    columns = Columns()
    for place, (step, value) in enumerate(points):
        columns.add(step, 1.7e9 + place, value)
    return columns


@given(POINTS, AXES, st.integers(8, 200), st.booleans())
def test_a_chart_is_small_in_order_and_shows_the_extremes(
    points: list[tuple[int, float]], axis: Axis, room: int, in_order: bool
) -> None:
    columns = columns_of(sorted(points, key=lambda one: one[0]) if in_order else points)
    whole = summarise(columns)
    ends = (whole.min_step, whole.max_step) if axis == "step" else (whole.min_time, whole.max_time)
    chart = Chart(axis, *ends, room)
    blocks, tail = cut(0, columns)
    start = 0
    for block in blocks:
        if chart.fits(block.summary):
            chart.add_summary(block.summary)
        else:
            chart.add(columns.part(start, start + block.summary.count))
        start += block.summary.count
    chart.add(tail)
    drawn = chart.drawn()
    assert len(drawn) <= max(room, 8)
    places = [spot.step if axis == "step" else spot.time for spot in drawn]
    assert places == sorted(places)
    finite = [spot.value for spot in drawn if math.isfinite(spot.value)]
    assert (min(finite, default=None), max(finite, default=None)) == (
        whole.low.value if whole.low else None,
        whole.high.value if whole.high else None,
    )
    assert (len(finite) < len(drawn)) == (whole.nonfinite > 0)
    assert (chart.count, chart.nonfinite) == (whole.count, whole.nonfinite)


@given(POINTS, st.integers(0, 5000))
def test_what_is_before_a_step_keeps_its_order(points: list[tuple[int, float]], until: int) -> None:
    columns = columns_of(points)
    kept = [(spot.step, spot.time) for spot in spots(columns.before(until))]
    assert kept == [(spot.step, spot.time) for spot in spots(columns) if spot.step < until]


def test_a_single_point_is_a_chart() -> None:
    chart = Chart("step", 5, 5, 100)
    chart.add(columns_of([(5, 1.0)]))
    assert chart.drawn() == [Spot(5, 1.7e9, 1.0)]
