import re
from dataclasses import replace
from datetime import timedelta

import pytest

from factories.billing import NOON
from tesra.billing.model import (
    Voucher,
    VoucherExpired,
    VoucherOrigin,
    VoucherSpent,
    VoucherUnknown,
)
from tesra.billing.vouchers import hash_code, new_code, redeem

VOUCHER = Voucher("vch_1", VoucherOrigin.OPERATOR, 10, None, None, NOON + timedelta(days=1))


def test_a_code_has_no_letter_that_is_easily_confused():
    for _ in range(200):
        assert re.fullmatch(r"TSR(-[2-9A-HJKMNP-Z]{4}){4}", new_code())


def test_case_dashes_spaces_and_prefix_of_a_code_do_not_matter():
    code = "TSR-ABCD-EFGH-2345-6789"
    for same in (code.lower(), code.replace("-", ""), f" {code} ", "abcd efgh 2345 6789"):
        assert hash_code(same) == hash_code(code)


def test_a_body_that_begins_like_the_prefix_keeps_it():
    assert hash_code("TSR-TSRA-BCDE-FGHJ-2345") == hash_code("TSRABCDEFGHJ2345")
    assert hash_code("TSR-TSRA-BCDE-FGHJ-2345") != hash_code("ABCDEFGHJ2345")


def test_another_code_has_another_hash():
    assert hash_code(new_code()) != hash_code(new_code())


def test_a_voucher_becomes_a_lot_of_its_whole_amount():
    lot = redeem(VOUCHER, "usr_a", now=NOON)
    assert (lot.id, lot.remaining_micros, lot.expires_at) == ("vch_1", 10, VOUCHER.expires_at)


def test_spent_voucher_is_refused():
    with pytest.raises(VoucherSpent):
        redeem(replace(VOUCHER, redeemed_by="usr_a"), "usr_a", now=NOON)


def test_expired_voucher_is_refused():
    with pytest.raises(VoucherExpired):
        redeem(VOUCHER, "usr_a", now=VOUCHER.expires_at)


def test_a_voucher_for_somebody_else_does_not_exist_even_when_spent():
    with pytest.raises(VoucherUnknown):
        redeem(replace(VOUCHER, for_user="usr_b", redeemed_by="usr_b"), "usr_a", now=NOON)
