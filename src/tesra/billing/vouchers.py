"""Voucher codes and who may redeem them, purely.

A code carries 79 random bits, so its plain SHA-256 can't be searched; only that hash is kept.
"""

import hashlib
import secrets
from datetime import datetime

from tesra.billing.model import (
    Voucher,
    VoucherExpired,
    VoucherLot,
    VoucherSpent,
    VoucherUnknown,
)
from tesra.kit.ids import UserId

_PREFIX = "TSR"
_ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"  # no 0 O, no 1 I L
_GROUPS = 4
_GROUP = 4
_LENGTH = _GROUPS * _GROUP


def new_code() -> str:
    """A fresh code such as ``TSR-7KQ2-M9XA-…``."""
    groups = ("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))
    return "-".join((_PREFIX, *groups))


def hash_code(code: str) -> bytes:
    """The hash that a code is stored and found by; case, dashes, spaces and the prefix don't matter."""
    letters = "".join(c for c in code.upper() if c.isalnum())
    if len(letters) == _LENGTH + len(_PREFIX):
        letters = letters.removeprefix(_PREFIX)
    return hashlib.sha256(b"tesra voucher\0" + letters.encode()).digest()


def redeem(voucher: Voucher, user_id: UserId, *, now: datetime) -> VoucherLot:
    """The lot that a voucher becomes in its owner's hands, or why it does not.

    A voucher for somebody else is answered as if it did not exist.
    """
    if voucher.for_user not in (None, user_id):
        raise VoucherUnknown
    if voucher.redeemed_by is not None:
        raise VoucherSpent
    if voucher.expires_at <= now:
        raise VoucherExpired(f"This voucher expired on {voucher.expires_at:%Y-%m-%d}.")
    return VoucherLot(
        voucher.id, voucher.origin, voucher.amount_micros, voucher.amount_micros, voucher.expires_at
    )
