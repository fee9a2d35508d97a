"""What a sweep may search, as people write it."""

import pytest

from tesra.wire.space import (
    Choice,
    Real,
    SpaceInvalid,
    Whole,
    grid_point,
    grid_size,
    parse,
    parse_space,
)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("uniform(0,1)", Real(0.0, 1.0)),
        (" uniform( -1 , 1.5 ) ", Real(-1.0, 1.5)),
        ("uniform(0,1,step=0.3)", Real(0.0, 0.9, step=0.3)),
        ("quniform(0,1,0.25)", Real(0.0, 1.0, step=0.25)),
        ("loguniform(1e-5,1e-1)", Real(1e-5, 1e-1, log=True)),
        ("int(1,4)", Whole(1, 4)),
        ("randint(16,64,step=16)", Whole(16, 64, step=16)),
        ("int(0,5,step=2)", Whole(0, 4, step=2)),
        ("logint(1,1024)", Whole(1, 1024, log=True)),
        ("choice(2,4)", Choice((2, 4))),
        ("choice(sgd, adam)", Choice(("sgd", "adam"))),
        ("choice('a,b', \"c)\", 007, true, 0.5)", Choice(("a,b", "c)", "007", True, 0.5))),
        ("choice('8')", Choice(("8",))),
        ("choice(1,1,1.0)", Choice((1, 1.0))),
    ],
)
def test_a_range_is_understood(text: str, meant: object) -> None:
    assert parse("lr", text) == meant


@pytest.mark.parametrize(
    ("text", "value"), [("3", 3), ("0.5", 0.5), ("adam", "adam"), ("a b", "a b"), ("", "")]
)
def test_anything_else_is_one_value(text: str, value: object) -> None:
    assert parse("lr", text) == value


@pytest.mark.parametrize(
    ("text", "place", "why"),
    [
        ("gauss(0,1)", 1, "there is no 'gauss'"),
        ("uniform(0,1", 12, "')' is missing"),
        ("uniform(0 1)", 9, "'0 1' is not a number"),
        ("uniform(0,)", 11, "a value is missing"),
        ("uniform(1,0)", 11, "above 1"),
        ("uniform(0,x)", 11, "'x' is not a number"),
        ("uniform(0,1,2)", 14, "two numbers are expected, not 3"),
        ("uniform()", 9, "two numbers"),
        ("uniform(nan,1)", 9, "'nan' is not a number"),
        ("loguniform(0,1)", 12, "begins above 0"),
        ("int(1,2.5)", 7, "not a whole number"),
        ("int(1,4,step=0)", 9, "a step is a whole number"),
        ("uniform(0,1,step=2)", 13, "up to 1"),
        ("choice()", 8, "at least one value"),
        ("choice('a,b)", 8, "not closed"),
        ("choice(f(1))", 9, "',' or ')' is expected"),
        ("int(1,2) or so", 9, "nothing is expected after"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, place: int, why: str) -> None:
    with pytest.raises(SpaceInvalid) as refused:
        parse("lr", text)
    assert f"at character {place}: " in refused.value.detail
    assert why in refused.value.detail
    assert "loguniform" in str(refused.value.way_out)


def test_a_grid_has_all_points_the_last_parameter_fastest() -> None:
    space = parse_space({"a": "choice(x,y)", "b": "uniform(0,0.3,step=0.1)", "c": "5"})
    assert grid_size(space) == 8
    points = [grid_point(space, number) for number in range(8)]
    assert [point["b"] for point in points[:4]] == [0.0, 0.1, 0.2, 0.3]
    assert {point["a"] for point in points[:4]} == {"x"}
    assert {point["c"] for point in points} == {5}
    assert len({tuple(point.items()) for point in points}) == 8


def test_a_grid_of_a_continuous_range_is_refused() -> None:
    with pytest.raises(SpaceInvalid, match="continuous") as refused:
        grid_size(parse_space({"lr": "loguniform(1e-5,1)"}))
    assert "step" in str(refused.value.way_out)
