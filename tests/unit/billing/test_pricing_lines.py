from datetime import timedelta

import pytest

from factories.billing import HALF_YUAN, HOUR_MS, NOON, ONE_T, usage, whole
from tesra.billing.model import Part, Price, PriceInvalid, UsageInvalid
from tesra.billing.pricing import bill_amount, bill_lines, explain, parse_price, stretch_of


def lines_of(records, book=(HALF_YUAN,), parts=None):
    return bill_lines([stretch_of(record) for record in records], book, parts or whole("att_1"))


def test_one_t_for_one_hour_costs_half_a_yuan():
    (line,) = lines_of([usage("att_1", 1, duration_ms=HOUR_MS)])
    assert (line.micro_th, line.amount_micros) == (1_000_000, 500_000)


def test_every_device_of_the_gang_counts():
    (line,) = lines_of([usage("att_1", 1, duration_ms=HOUR_MS, devices=(ONE_T, ONE_T))])
    assert (line.devices, line.duration_ms, line.amount_micros) == (2, HOUR_MS, 1_000_000)


def test_consecutive_records_become_one_line_that_is_rounded_once():
    records = [usage("att_1", n, start_s=n, duration_ms=1, devices=(("x", 5),)) for n in range(9)]
    (line,) = lines_of(records)
    assert (line.first_seq, line.last_seq, line.duration_ms) == (0, 8, 9)
    assert line.amount_micros == 9 * 5 * 500_000 // (HOUR_MS * 1_000_000)
    assert line.ended_at == NOON + timedelta(seconds=8, milliseconds=1)


def test_devices_of_another_rating_have_their_own_line():
    fast = ("gpu", 2_000_000)
    lines = lines_of([usage("att_1", 1, duration_ms=HOUR_MS, devices=(fast, ONE_T, fast))])
    assert [(line.device_class, line.devices, line.amount_micros) for line in lines] == [
        ("cpu", 1, 500_000),
        ("gpu", 2, 2_000_000),
    ]


def test_the_price_at_the_start_of_a_record_counts():
    dearer = Price(2, 1_000_000, NOON + timedelta(seconds=5))
    records = [usage("att_1", n, start_s=start) for n, start in enumerate((0, 4.9, 5, 15))]
    first, second = lines_of(records, (HALF_YUAN, dearer))
    assert (first.first_seq, first.last_seq, first.price_micros) == (0, 1, 500_000)
    assert (second.first_seq, second.last_seq, second.price_micros) == (2, 3, 1_000_000)


def test_only_the_named_attempts_count():
    records = [usage("att_1", 1), usage("att_2", 1), usage("att_3", 1)]
    lines = lines_of(records, parts=whole("att_3", "att_1"))
    assert [(line.attempt_id, line.attempt) for line in lines] == [("att_3", 1), ("att_1", 2)]


def test_of_a_lost_attempt_only_what_lies_before_its_checkpoint_counts():
    records = [usage("att_1", n, start_s=10 * n) for n in range(3)]
    parts = [Part("att_1", 1, until_ms=14_500)]
    (line,) = lines_of(records, parts=parts)
    assert (line.first_seq, line.last_seq, line.duration_ms) == (0, 1, 14_500)
    assert line.ended_at == NOON + timedelta(seconds=14.5)
    assert lines_of(records, parts=[Part("att_1", 1, until_ms=0)]) == ()
    (whole_line,) = lines_of(records, parts=[Part("att_1", 1, until_ms=99_000)])
    assert whole_line.duration_ms == 30_000


def test_a_line_that_ends_at_a_checkpoint_says_so():
    (line,) = lines_of([usage("att_1", 1)], parts=[Part("att_1", 2, until_ms=3_750_999)])
    assert explain(line).startswith(
        "attempt 2, up to its checkpoint at 01:02:30 (what it did after"
    )


def test_a_bill_is_rounded_up_to_the_fen_once():
    lines = lines_of([usage("att_1", 1, duration_ms=1), usage("att_2", 1, duration_ms=1)])
    assert bill_amount(lines) == 0
    lines = lines_of([usage("att_1", 1, duration_ms=100)])
    assert (lines[0].amount_micros, bill_amount(lines)) == (13, 10_000)


def test_a_line_is_explained_in_words():
    (line,) = lines_of([usage("att_1", 1, duration_ms=HOUR_MS, devices=(ONE_T, ONE_T))])
    assert explain(line) == (
        "attempt 1: 2026-07-01 12:00:00 UTC to 2026-07-01 13:00:00 UTC, 3600.000 s "
        "on 2 devices cpu of 1 T: 2 T·H at CNY 0.5 a T·H = CNY 1"
    )


@pytest.mark.parametrize(
    "record",
    [
        usage("att_1", -1),
        usage("att_1", 1, duration_ms=-1),
        usage("att_1", 1, devices=()),
        usage("att_1", 1, devices=(("x", -1),)),
        usage("att_1", 1, start_s=-2e9),
    ],
)
def test_usage_that_could_never_be_billed_is_refused(record):
    with pytest.raises(UsageInvalid):
        stretch_of(record)


def test_a_price_may_have_six_decimals():
    assert parse_price("0.125001") == 125_001
    assert parse_price("0") == 0


@pytest.mark.parametrize("text", ["", "a", "-1", "NaN", "Infinity", "0.0000001", "1e9", "sNaN"])
def test_what_is_no_price_is_refused(text):
    with pytest.raises(PriceInvalid):
        parse_price(text)
