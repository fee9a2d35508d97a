"""What may be changed, to what, and what holds after changes."""

import pytest

from tesra.kit.errors import TesraError
from tesra.training.tuning.model import (
    Change,
    ChangeState,
    ParameterUnknown,
    ValueRefused,
    check_ranges,
    checked,
    declared,
    live_orders,
    start_values,
    values_now,
)
from tesra.wire.parameters import ParameterRange

PARAMS = {"lr": 0.1, "layers": 2, "deep": True, "opt": "sgd", "batch-size": 32}
RANGES = {"lr": {"low": 1e-5, "high": 1.0}, "opt": {"choices": ["sgd", "adam"]}}
ALL = declared(PARAMS, RANGES, [], [])


@pytest.mark.parametrize(
    ("values", "as_kept"),
    [
        ({"lr": 1}, {"lr": 1.0}),
        ({"lr": 1e-5}, {"lr": 1e-5}),
        ({"layers": 3.0}, {"layers": 3}),
        ({"deep": False, "opt": "adam"}, {"deep": False, "opt": "adam"}),
    ],
)
def test_a_fitting_value_gets_its_parameters_kind(values: dict, as_kept: dict) -> None:
    kept = checked(ALL, values)
    assert kept == as_kept
    assert [type(value) for value in kept.values()] == [type(v) for v in as_kept.values()]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"lr": 2}, "lr=2.0 is out of its range 1e-05..1"),
        ({"lr": float("nan")}, "finite"),
        ({"lr": float("-inf")}, "finite"),
        ({"lr": "nan"}, "lr takes a number"),
        ({"lr": True}, "lr takes a number"),
        ({"layers": 2.5}, "a whole number"),
        ({"deep": 1}, "true or false"),
        ({"opt": "lbfgs"}, "may be: sgd, adam"),
        ({"opt": 3}, "a text"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_in_words(values: dict, words: str) -> None:
    with pytest.raises(ValueRefused) as refused:
        checked(ALL, values)
    assert words in f"{refused.value.detail} {refused.value.way_out}"


def test_what_was_not_declared_is_refused_with_what_can_be_changed() -> None:
    with pytest.raises(ParameterUnknown) as refused:
        checked(ALL, {"lr": 0.2, "width": 3})
    assert "'width'" in refused.value.detail
    assert "batch-size, deep, layers, lr, opt" in str(refused.value.way_out)


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        ({"width": {"low": 1}}, "--param width"),
        ({"lr": {"low": 0.5}}, "out of its range 0.5.."),
        ({"opt": {"low": 1}}, "--choices opt"),
        ({"opt": {"choices": ["adam"]}}, "may be: adam"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused_at_the_start(ranges: dict, words: str) -> None:
    with pytest.raises(TesraError) as refused:
        check_ranges(PARAMS, {name: ParameterRange(**one) for name, one in ranges.items()})
    assert words in f"{refused.value.detail} {refused.value.way_out}"


def test_what_the_script_declares_is_added_and_the_runs_own_range_stands() -> None:
    found = [
        {"name": "drop", "value": 0.5, "low": 0, "high": 1, "origin": "script", "where": []},
        {"name": "lr", "value": 0.1, "low": 0, "high": 9, "origin": "script", "where": ["SGD"]},
        {"name": "batch_size", "value": None, "origin": "run", "where": ["loader"]},
        {"name": "hidden", "value": None, "origin": "run", "where": []},
    ]
    parameters = declared(PARAMS, RANGES, found, ["tesra.params"])
    assert (parameters["drop"].high, parameters["drop"].origin) == (1, "script")
    assert (parameters["lr"].high, parameters["lr"].where) == (1.0, ("SGD", "tesra.params"))
    assert parameters["batch-size"].where == ("loader", "tesra.params")
    assert "hidden" not in parameters


def change(seq: int, state: ChangeState, attempt: int = 1, **facts: object) -> Change:
    return Change(seq, {"lr": float(seq)}, state, attempt, **facts)  # type: ignore[arg-type]


def test_an_attempt_starts_with_what_was_asked_for_before_it() -> None:
    changes = [
        change(1, ChangeState.APPLIED),
        change(2, ChangeState.WITHDRAWN),
        change(3, ChangeState.FAILED),
        change(4, ChangeState.ROLLED_BACK),
    ]
    assert start_values(PARAMS, changes, 2)["lr"] == 1.0
    assert start_values(PARAMS, changes, 1)["lr"] == 0.1
    lost = [*changes, change(5, ChangeState.WAITING)]
    assert start_values(PARAMS, lost, 2)["lr"] == 5.0
    assert live_orders(lost, 1) == [lost[-1]]
    assert live_orders(lost, 2) == []


def test_a_queued_runs_change_stands_at_its_start() -> None:
    queued = [change(1, ChangeState.WAITING, 1, at_start=True)]
    assert start_values(PARAMS, queued, 1)["lr"] == 1.0
    assert live_orders(queued, 1) == []


def test_only_what_was_made_holds_now() -> None:
    changes = [change(1, ChangeState.APPLIED), change(2, ChangeState.WAITING)]
    assert values_now(ALL.values(), changes)["lr"] == 1.0
