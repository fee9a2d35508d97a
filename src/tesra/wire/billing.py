"""Bills, wallet, vouchers, prices. ``*_cny`` are exact decimal strings; ``*_micros`` integers."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from tesra.wire.common import Answer, Wire

BillState = Literal["unpaid", "paid"]


class BillLine(Answer):
    """One line, recomputable: floor(device_ms x rating x price) in micro-yuan; or in words.

    ``run`` and ``trial`` are set on the bill of a sweep, which has lines for each of its trials.
    """

    attempt: int
    started_at: datetime
    ended_at: datetime
    duration_ms: int
    devices: int
    device_class: str
    rating_micro_t: int
    micro_th: int
    th: str
    price_cny: str
    amount_micros: int
    amount_cny: str
    explanation: str = ""
    run: str | None = None
    trial: int | None = None


class BillSummary(Answer):
    id: str
    run: str
    state: BillState
    amount_cny: str
    amount_micros: int
    th: str
    created_at: datetime
    paid_at: datetime | None


class Payment(Answer):
    """Where a bill's money came from."""

    source: Literal["voucher", "wallet"]
    amount_cny: str
    at: datetime


class Bill(BillSummary):
    lines: list[BillLine]
    payments: list[Payment]
    note: str | None = None


class PayRequest(Wire):
    voucher: str | None = Field(default=None, max_length=64)


class VoucherBalance(Answer):
    id: str
    amount_cny: str
    remaining_cny: str
    expires_at: datetime
    origin: str


class WalletEntry(Answer):
    at: datetime
    kind: str
    amount_cny: str
    memo: str


class Wallet(Answer):
    balance_cny: str
    vouchers_cny: str
    unpaid_cny: str
    autopay: bool
    vouchers: list[VoucherBalance]
    entries: list[WalletEntry]


class AutopayRequest(Wire):
    on: bool


class TopUpRequest(Wire):
    user: str = Field(max_length=64)
    amount_cny: str = Field(max_length=32)


class TopUp(Answer):
    user: str
    amount_cny: str


class VoucherRequest(Wire):
    amount_cny: str = Field(max_length=32)
    for_user: str | None = Field(default=None, max_length=64)
    expires_in_days: int = Field(default=365, ge=1, le=3650)


class IssuedVoucher(Answer):
    """The code is shown once; only its hash is kept."""

    code: str
    amount_cny: str
    for_user: str | None
    expires_at: datetime


class LimitRequest(Wire):
    """``limit_cny`` null: the network's own."""

    user: str = Field(max_length=64)
    limit_cny: str | None = Field(max_length=32)


class ExposureLimit(Answer):
    """How much a user's runs may come to owe, beside their vouchers and wallet."""

    user: str
    limit_cny: str


class RedeemRequest(Wire):
    code: str = Field(min_length=1, max_length=64)


class Price(Answer):
    id: int
    price_cny_per_th: str
    effective_from: datetime
    current: bool


class PriceRequest(Wire):
    price_cny_per_th: str = Field(max_length=32)
    effective_from: datetime | None = None
