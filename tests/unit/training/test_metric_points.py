"""Points as they are stored, lines as they are read, and which of the stored series count."""

import math

import pytest

from tesra.training.metrics.lines import Key, read_lines
from tesra.training.metrics.model import Head, lines_of
from tesra.training.metrics.points import (
    BLOCK_POINTS,
    NO_STEP,
    TAIL_POINTS,
    Columns,
    Spot,
    cut,
    number,
    pack,
    spots,
    summarise,
    together,
    unpack,
)


def columns(values: list[float], first: int = 0) -> Columns:
    made = Columns()
    for step, value in enumerate(values, first):
        made.add(step, 1.7e9 + step, value)
    return made


def test_packed_points_come_back_as_they_were() -> None:
    points = columns([1.0, math.inf, -math.inf, -0.0, 1e-308])
    assert list(spots(unpack(pack(points)))) == list(spots(points))
    assert math.isnan(unpack(pack(columns([math.nan]))).values[0])
    joined = unpack(pack(points) + pack(columns([7.0], first=5)))
    assert list(joined.steps) == list(range(6))


def test_a_summary_knows_the_first_lowest_and_highest_finite_value() -> None:
    summary = summarise(columns([math.nan, 3, 1, 1, math.inf, 3]))
    assert summary.low == Spot(2, 1.7e9 + 2, 1)
    assert summary.high == Spot(1, 1.7e9 + 1, 3)
    assert (summary.count, summary.nonfinite, summary.max_step) == (6, 2, 5)
    nothing = summarise(columns([math.nan]))
    assert (nothing.low, nothing.high) == (None, None)
    assert together(nothing, summary).low == summary.low
    assert together(summary, nothing).count == 7


@pytest.mark.parametrize("count", [0, 1, TAIL_POINTS - 1, TAIL_POINTS, 1000, 5 * BLOCK_POINTS + 3])
def test_points_are_cut_into_blocks_and_a_short_tail(count: int) -> None:
    points = columns([float(value) for value in range(count)])
    blocks, tail = cut(100, points)
    assert len(tail) < TAIL_POINTS
    assert [block.start for block in blocks] == [
        100 + sum(one.summary.count for one in blocks[:place]) for place in range(len(blocks))
    ]
    steps = [step for block in blocks for step in unpack(block.data).steps]
    assert [*steps, *tail.steps] == list(range(count))
    assert all(TAIL_POINTS <= block.summary.count <= BLOCK_POINTS for block in blocks)


def test_a_point_without_a_step_gets_the_one_behind_the_last() -> None:
    points = Columns()
    for step in (NO_STEP, NO_STEP, 10, NO_STEP):
        points.add(step, 0.0, 0.0)
    number(points, 6)
    assert list(points.steps) == [7, 8, 10, 11]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", 1.0),
        ("true", 1.0),
        ("1e999", math.inf),
        ("1" + "0" * 400, math.inf),
        ('"-inf"', -math.inf),
    ],
)
def test_what_is_a_number_is_taken(value: str, expected: float) -> None:
    line = f'{{"k":"m","r":0,"o":"log","t":1,"s":2,"v":{{"x":{value}}}}}'
    batch = read_lines(line.encode(), ranks=1, devices=frozenset())
    assert list(batch.series[Key("x", 0, "log")].values) == [expected]
    assert batch.skipped == 0


@pytest.mark.parametrize(
    "line",
    [
        b'{"k":"m","r":0,"o":"log","t":1,"s":2,"v":{"x":null}}',
        b'{"k":"m","r":0,"o":"log","t":1,"s":2,"v":{"x":[1]}}',
        b'{"k":"m","r":0,"o":"log","t":1,"s":1.5,"v":{"x":1}}',
        b'{"k":"m","r":0,"o":"log","t":1,"s":99999999999999999999,"v":{"x":1}}',
        b'{"k":"m","r":0,"o":"log","t":-1,"s":1,"v":{"x":1}}',
        b'{"k":"m","r":0,"o":"log","t":NaN,"s":1,"v":{"x":1}}',
        b'{"k":"m","r":0,"o":"elsewhere","t":1,"s":1,"v":{"x":1}}',
        b'{"k":"m","r":-1,"o":"log","t":1,"s":1,"v":{"x":1}}',
        b'{"k":"m","r":0,"o":["log"],"t":1,"s":1,"v":{"x":1}}',
        b'{"k":"?","r":0}',
        b"[" * 5000,
        b"null",
        b"\xff\xfe",
        b'{"k":"p","r":7,"v":{"a":"b"}}',
    ],
)
def test_what_is_not_understood_is_counted_and_hurts_nothing(line: bytes) -> None:
    sound = b'{"k":"m","r":0,"o":"log","t":1,"s":1,"v":{"y":1}}'
    batch = read_lines(b"\n".join([sound, line, b"", sound]), ranks=1, devices=frozenset())
    assert batch.skipped == 1
    assert {key.name: len(points) for key, points in batch.series.items()} == {"y": 2}


def head(identity: int, *, attempt: int = 1, origin: str = "log", first: int = 0) -> Head:
    points = columns([1.0, 2.0, 3.0], first)
    return Head(
        id=identity,
        device="",
        name="loss",
        rank=0,
        attempt=attempt,
        origin=origin,
        seq=1,
        summary=summarise(points),
        last=points.spot(2),
    )


def counting(*heads: Head) -> list[tuple[int, int | None]]:
    (line,) = lines_of(heads)
    return [(part.head.id, part.until) for part in line.parts]


def test_a_later_attempt_counts_from_the_first_step_that_it_has() -> None:
    assert counting(head(1), head(2, attempt=2, first=2)) == [(1, 2), (2, None)]
    assert counting(head(1), head(2, attempt=2, first=9)) == [(1, 9), (2, None)]


def test_an_attempt_that_was_done_again_from_its_beginning_does_not_count() -> None:
    assert counting(head(1, first=5), head(2, attempt=2, first=1)) == [(2, None)]


def test_the_earliest_beginning_of_all_later_attempts_decides() -> None:
    three = [head(1), head(2, attempt=2, first=1), head(3, attempt=3, first=2)]
    assert counting(*three) == [(1, 1), (2, 2), (3, None)]


def test_the_most_deliberate_origin_counts_alone() -> None:
    assert counting(head(1, origin="lines"), head(2, origin="mlflow")) == [(2, None)]
