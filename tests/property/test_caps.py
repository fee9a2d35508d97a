"""A bill never exceeds its cap, and a cap takes nothing that could have been used."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from factories.billing import HOUR_MS, NOON, usage, whole
from tesra.billing.model import Price
from tesra.billing.pricing import (
    EPOCH,
    bill_amount,
    bill_lines,
    cost_of,
    price_at,
    running_ms_for,
    stretch_of,
)
from tesra.kit.ids import AttemptId
from tesra.kit.money import FEN_MICROS
from tesra.training.caps import GRACE_MS, REPORT_MS, Caps, Spent, grace_ms, is_due, left_ms

ATTEMPT = AttemptId("att_1")
gangs = st.lists(
    st.tuples(st.sampled_from(["cpu", "gpu"]), st.integers(0, 10**9)), min_size=1, max_size=8
)
records = st.lists(st.integers(0, 600_000), min_size=1, max_size=30)
prices = st.lists(st.integers(0, 10**9), min_size=1, max_size=3)
whole_fen = st.integers(1, 10**9).map(lambda fen: fen * FEN_MICROS)


def run_to_the_end(
    caps: Caps, gang: list[tuple[str, int]], durations: list[int], book: list[Price]
) -> tuple[Spent, int]:
    """Records as the server takes them, and the bill over them."""
    rating = sum(device[1] for device in gang)
    spent, kept = Spent(0, 0), []
    for seq, duration in enumerate(durations, start=1):
        start_s = seq * 600.0
        price = price_at(book, NOON + timedelta(seconds=start_s)).micros_per_th
        left = left_ms(caps, spent, rating_micro_t=rating, price_micros=price)
        taken = duration if left is None else min(duration, left)
        kept.append(usage(ATTEMPT, seq, start_s=start_s, duration_ms=taken, devices=tuple(gang)))
        spent = Spent(spent.ms + taken, spent.micros + cost_of(taken, rating, price))
    lines = bill_lines([stretch_of(record) for record in kept], book, whole(ATTEMPT))
    return spent, bill_amount(lines)


def book_of(micros: list[int]) -> list[Price]:
    """Prices that change within the run."""
    return [
        Price(n, price, EPOCH if n == 0 else NOON + timedelta(seconds=3_000 * n))
        for n, price in enumerate(micros)
    ]


@given(whole_fen, gangs, records, prices)
def test_the_bill_is_never_above_the_cap(
    cap: int, gang: list[tuple[str, int]], durations: list[int], micros: list[int]
) -> None:
    spent, bill = run_to_the_end(Caps(max_cost_micros=cap), gang, durations, book_of(micros))
    assert bill <= cap
    assert spent.micros <= cap


@given(st.integers(1, 10**8), gangs, records)
def test_the_billed_time_is_the_cap_or_all_that_ran(
    cap_ms: int, gang: list[tuple[str, int]], durations: list[int]
) -> None:
    spent, _ = run_to_the_end(Caps(max_time_ms=cap_ms), gang, durations, book_of([500_000]))
    assert spent.ms == min(cap_ms, sum(durations))


@given(st.integers(0, 10**12), st.integers(0, 10**11), st.integers(0, 10**9))
def test_what_a_cap_leaves_is_affordable_and_a_millisecond_more_is_not(
    micros: int, rating: int, price: int
) -> None:
    ms = running_ms_for(micros, rating, price)
    if ms is None:
        assert rating * price == 0
        return
    assert cost_of(ms, rating, price) <= micros
    assert (ms + 1) * rating * price > micros * HOUR_MS * 1_000_000


@given(st.integers(1, 10**9), st.data())
def test_the_job_is_asked_in_time_and_not_long_before(cap_ms: int, data: st.DataObject) -> None:
    ran = data.draw(st.integers(0, cap_ms))
    spent, left = Spent(ran, 0), cap_ms - ran
    grace = grace_ms(spent, left)
    assert grace <= min(GRACE_MS, cap_ms // 10)
    if is_due(spent, left):
        assert left <= 2 * grace  # short caps are mostly used
        assert left <= GRACE_MS + REPORT_MS
    else:  # the next report comes before its grace is gone
        assert left > grace
