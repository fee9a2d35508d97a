"""Pricing: lines can be recomputed, grouping does not matter, nothing is over-charged."""

from datetime import timedelta
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from factories.billing import NOON, usage, whole
from tesra.billing.model import Price
from tesra.billing.pricing import (
    EPOCH,
    _merge,
    bill_amount,
    bill_lines,
    line_amount,
    price_at,
    stretch_of,
)

DEVICES = st.lists(
    st.tuples(st.sampled_from(["cpu", "gpu"]), st.integers(0, 80_000_000)), min_size=1, max_size=4
).map(tuple)
DURATIONS = st.integers(0, 600_000)
RECORDS = st.lists(
    st.tuples(st.sampled_from(["att_1", "att_2"]), DURATIONS, st.integers(0, 1)), max_size=30
)


@st.composite
def usage_records(draw):
    gangs = [draw(DEVICES), draw(DEVICES)]
    start_s, records = 0.0, []
    for seq, (attempt, duration_ms, gang) in enumerate(draw(RECORDS)):
        records.append(
            usage(attempt, seq, start_s=start_s, duration_ms=duration_ms, devices=gangs[gang])
        )
        start_s += duration_ms / 1000
    return records


@st.composite
def price_books(draw):
    offsets = draw(st.lists(st.integers(0, 3600), unique=True, max_size=4))
    micros = st.integers(0, 5_000_000)
    return [Price(1, draw(micros), EPOCH)] + [
        Price(n, draw(micros), NOON + timedelta(seconds=offset))
        for n, offset in enumerate(offsets, start=2)
    ]


ATTEMPTS = whole("att_1", "att_2")


@given(usage_records(), price_books())
def test_every_line_can_be_recomputed_from_the_usage_records(records, book):
    for line in bill_lines(map(stretch_of, records), book, ATTEMPTS):
        own = [
            r
            for r in records
            if r.attempt_id == line.attempt_id and line.first_seq <= r.seq <= line.last_seq
        ]
        counts = {r.devices.count((line.device_class, line.rating_micro_t)) for r in own}
        assert counts == {line.devices}
        assert {price_at(book, r.started_at).id for r in own} == {line.price_id}
        device_ms = sum(r.duration_ms for r in own) * line.devices
        assert line.amount_micros == line_amount(device_ms, line.rating_micro_t, line.price_micros)


@given(usage_records(), price_books())
def test_a_bill_is_the_exact_cost_to_within_a_micro_yuan_a_line_and_a_fen(records, book):
    lines = bill_lines(map(stretch_of, records), book, ATTEMPTS)
    exact = sum(
        (
            Fraction(r.duration_ms * d.rating_micro_t * price_at(book, r.started_at).micros_per_th)
            / (3_600_000 * 1_000_000)
            for r in records
            for d in r.devices
        ),
        Fraction(0),
    )
    exact_lines = sum(line.amount_micros for line in lines)
    assert 0 <= exact - exact_lines < max(len(lines), 1)
    assert 0 <= bill_amount(lines) - exact_lines < 10_000
    assert bill_amount(lines) % 10_000 == 0


@given(usage_records(), price_books(), st.randoms())
def test_order_and_earlier_grouping_do_not_change_the_lines(records, book, random):
    singles = [stretch_of(record) for record in records]
    expected = bill_lines(singles, book, ATTEMPTS)
    in_order = sorted(singles, key=lambda s: (s.attempt_id, s.first_seq))
    grouped = [stretch for stretch, _ in _merge(in_order, book)]
    random.shuffle(singles)
    assert bill_lines(singles, book, ATTEMPTS) == expected
    assert bill_lines(grouped, book, ATTEMPTS) == expected


@given(usage_records(), price_books())
def test_usage_never_makes_a_bill_smaller(records, book):
    def amount(some):
        return bill_amount(bill_lines(map(stretch_of, some), book, ATTEMPTS))

    assert amount(records[:-1]) <= amount(records) + 10_000
    assert amount([]) == 0
