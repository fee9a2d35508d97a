import pytest

from factories.billing import NOON, lot
from tesra.billing.ledger import (
    Entry,
    Posting,
    PostingKind,
    plan_payment,
    post_reversal,
    post_topup,
)


def test_vouchers_come_before_the_wallet_and_the_soonest_to_expire_first():
    late, soon = lot(3, days=20), lot(3, days=10)
    plan = plan_payment(8, [late, soon], wallet_micros=10, now=NOON)
    assert plan.from_vouchers == ((soon.id, 3), (late.id, 3))
    assert (plan.from_wallet_micros, plan.covers) == (2, True)


def test_an_expired_lot_pays_nothing():
    plan = plan_payment(5, [lot(9, days=0)], wallet_micros=2, now=NOON)
    assert (plan.from_vouchers, plan.missing_micros, plan.covers) == ((), 3, False)


def test_no_more_is_taken_than_is_due():
    money = lot(9)
    plan = plan_payment(5, [money, lot(9, days=40)], wallet_micros=2, now=NOON)
    assert (plan.from_vouchers, plan.from_wallet_micros) == (((money.id, 5),), 0)


def test_a_posting_that_does_not_balance_cannot_exist():
    with pytest.raises(ValueError, match="zero"):
        Posting("k", PostingKind.TOPUP, "usr_a", (Entry("a", 1), Entry("b", -2)))


def test_a_posting_that_moves_nothing_cannot_exist():
    with pytest.raises(ValueError, match="nothing"):
        Posting("k", PostingKind.TOPUP, "usr_a", ())


def test_a_reversal_is_the_opposite_under_its_own_key():
    topup = post_topup("usr_a", amount_micros=7, key="k")
    reversal = post_reversal(topup, memo="wrong")
    assert reversal.key == "reverse:topup:k"
    assert sorted(e.amount_micros for e in reversal.entries) == [-7, 7]
    assert {e.account: -e.amount_micros for e in reversal.entries} == {
        e.account: e.amount_micros for e in topup.entries
    }
