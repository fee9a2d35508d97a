import pytest

from tesra.cli.finding import Ambiguous, matching
from tesra.cli.finding import _only as only

RUNS = ["run_01kaaaaaaaaaaaaaaaaaaaaaaa", "run_01kbbbbbbbbbbbbbbbbbbbbbbz"]


def test_a_beginning_with_or_without_its_kind_and_an_end_are_found() -> None:
    assert matching(RUNS, "run_01ka") == RUNS[:1]
    assert matching(RUNS, "01KA") == RUNS[:1]
    assert matching(RUNS, "bz") == RUNS[1:]


def test_a_middle_is_not_found() -> None:
    assert matching(RUNS, "1kb") == []
    assert matching(RUNS, "") == []


def test_what_fits_several_is_refused_with_examples() -> None:
    with pytest.raises(Ambiguous, match="fits 2 runs"):
        only(matching(RUNS, "01k"), "01k", "run")


def test_the_same_thing_found_twice_is_one() -> None:
    assert only(["a", "a"], "a", "bill") == "a"
    assert only([], "a", "bill") is None
