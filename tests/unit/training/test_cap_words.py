"""What a user is told of a cap and of a limit."""

from itertools import pairwise

from tesra.billing.model import Credit
from tesra.kit.ids import RunId
from tesra.training.caps import Caps, Spent, is_near, near_words, span, words
from tesra.training.exposure import LiveRun, committed, end_words, to_end, waits_words

HALF_YUAN = 500_000
YUAN = 1_000_000


def credit(limit: int = 0, wallet: int = 0, vouchers: int = 0, unpaid: int = 0) -> Credit:
    return Credit(limit * YUAN, wallet * YUAN, vouchers * YUAN, unpaid * YUAN)


def live(name: str, cost: int, started_s: float = 1.0, *, endable: bool = True) -> LiveRun:
    return LiveRun(RunId(name), cost * YUAN, 100 * YUAN, started_s, endable)


def test_the_nearer_cap_is_named() -> None:
    both = Caps(max_cost_micros=2 * YUAN, max_time_ms=7_200_000)
    assert "CNY 2.00" in words(both, Spent(60_000, 1_900_000), "run_1")
    assert "2 h" in words(both, Spent(7_100_000, 10), "run_1")
    assert "tesra resume run_1" in words(both, Spent(7_100_000, 10), "run_1")
    assert near_words(Caps(max_time_ms=60_000), Spent(50_000, 0)) == (
        "80 % of your cap of 1 min is used."
    )


def test_a_cap_comes_near_once() -> None:
    caps = Caps(max_cost_micros=100)
    steps = [Spent(n, n) for n in (0, 79, 80, 81, 100)]
    near = [is_near(caps, a, b) for a, b in pairwise(steps)]
    assert near == [False, True, False, False]
    assert not is_near(Caps(), Spent(0, 0), Spent(9, 9))


def test_spans_read_well() -> None:
    assert [span(ms) for ms in (0, 45_000, 5_400_000, 90_061_000)] == [
        "0 s",
        "45 s",
        "1 h 30 min",
        "25 h 1 min 1 s",
    ]


def test_the_run_that_began_last_is_ended_when_the_limit_comes_near() -> None:
    runs = [live("old", 4, 1.0), live("new", 4, 2.0), live("newest", 1, 3.0, endable=False)]
    assert to_end(runs, credit(limit=20), HALF_YUAN) is None
    assert to_end(runs, credit(limit=10), HALF_YUAN) == "new"
    assert to_end(runs, credit(limit=5, wallet=5), HALF_YUAN) == "new"
    assert to_end(runs, credit(limit=5, wallet=15), HALF_YUAN) is None
    assert to_end([live("x", 99, endable=False)], credit(), HALF_YUAN) is None


def test_a_run_that_has_just_begun_counts_for_its_reserve() -> None:
    ten_minutes = 100 * YUAN * HALF_YUAN // YUAN // 6
    assert committed([live("new", 0)], HALF_YUAN) == -(-ten_minutes // 1) + 1
    assert committed([live("old", 50)], HALF_YUAN) == 50 * YUAN


def test_who_reaches_a_limit_is_told_amounts_and_the_way_out() -> None:
    standing = credit(limit=100, wallet=3, vouchers=2, unpaid=0)
    waits = waits_words(standing, 104 * YUAN, 2 * YUAN)
    for part in ("CNY 105.00", "CNY 100.00", "CNY 104.00", "top up", "operator"):
        assert part in waits
    assert "CNY 105.00" in end_words(standing, "run_1")
