"""A forecast comes from what a run has done, or not at all."""

import pytest

from tesra.training.forecast import Sample, forecast, total_of


def steps(*pairs: tuple[float, float]) -> list[Sample]:
    return [Sample(at, value) for at, value in pairs]


def test_the_rest_takes_as_long_as_the_recent_part() -> None:
    found = forecast("epoch", 10, steps((0, 1), (30, 2), (60, 3), (90, 4)), now=90)
    assert found is not None
    assert found.left_s == pytest.approx(180)
    assert found.words == "epoch 4 of 10, 30 s each"


def test_time_that_has_passed_since_is_taken_off() -> None:
    found = forecast("epoch", 10, steps((0, 1), (30, 2)), now=40)
    assert found is not None
    assert found.left_s == pytest.approx(8 * 30 - 10)


def test_counts_that_begin_at_0_are_one_further() -> None:
    found = forecast("epoch", 4, steps((0, 0), (10, 1)), now=10)
    assert found is not None
    assert found.words.startswith("epoch 2 of 4")
    fractions = forecast("epoch", 4, steps((0, 0), (10, 1.5)), now=10)
    assert fractions is not None
    assert fractions.words.startswith("epoch 1.5 of 4")


def test_an_old_pace_is_forgotten() -> None:
    slow = [(n * 1000.0, n * 1.0) for n in range(1, 6)]
    fast = [(5000.0 + n * 10, 5.0 + n) for n in range(1, 90)]
    found = forecast("step", 194, steps(*slow, *fast), now=5890)
    assert found is not None
    assert found.left_s == pytest.approx(1000, rel=0.01)


@pytest.mark.parametrize(
    ("total", "samples", "now"),
    [
        (None, [(0, 1), (10, 2)], 10),  # nobody knows how far it goes
        (10, [(0, 1)], 10),
        (10, [], 10),
        (10, [(0, 3), (10, 3)], 10),  # it does not move
        (10, [(0, 3), (0, 4)], 0),
        (10, [(0, 9), (10, 10)], 10),  # it is there: what comes now is not known
        (10, [(0, 1), (10, 2)], 500),  # nothing was heard for long
    ],
)
def test_without_data_there_is_none(
    total: float | None, samples: list[tuple[float, float]], now: float
) -> None:
    assert forecast("epoch", total, steps(*samples), now=now) is None


def test_how_far_it_goes_is_said_by_the_script_or_a_parameter() -> None:
    assert total_of("epoch", {"epochs": 5, "lr": 0.1}, {}) == 5
    assert total_of("epoch", {"epochs": 5}, {"epochs": 7.0}) == 7
    assert total_of("step", {"max_steps": 900}, {}) == 900
    for useless in ({}, {"epochs": "many"}, {"epochs": True}, {"epochs": 0}):
        assert total_of("epoch", useless, {}) is None
