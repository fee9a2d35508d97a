"""The verbs of money: bills, wallet, vouchers, prices."""

from datetime import datetime
from urllib.parse import quote

from tesra.sdk.connection import Connection
from tesra.wire.billing import (
    AutopayRequest,
    Bill,
    BillSummary,
    ExposureLimit,
    IssuedVoucher,
    LimitRequest,
    PayRequest,
    Price,
    PriceRequest,
    RedeemRequest,
    TopUp,
    TopUpRequest,
    VoucherRequest,
    Wallet,
)


class BillingVerbs:
    """What ``Client`` can do with money; amounts are decimal strings in yuan."""

    connection: Connection

    def bills(self, limit: int | None = None) -> list[BillSummary]:
        """Newest first."""
        return list(self.connection.pages("/bills", BillSummary, limit=limit))

    def bill(self, bill: str) -> Bill:
        """A bill with its lines, each of which can be recomputed."""
        return self.connection.get(f"/bills/{quote(bill, safe='')}", Bill)

    def pay(self, bill: str, voucher: str | None = None) -> Bill:
        """Pay from vouchers first, then from the wallet; ``voucher`` is redeemed before."""
        path = f"/bills/{quote(bill, safe='')}/pay"
        return self.connection.post(path, Bill, PayRequest(voucher=voucher), once=True)

    def wallet(self) -> Wallet:
        return self.connection.get("/wallet", Wallet)

    def autopay(self, *, on: bool) -> Wallet:
        """Whether bills are paid by themselves when they are made."""
        self.connection.send("PUT", "/wallet/autopay", AutopayRequest(on=on))
        return self.wallet()

    def redeem(self, code: str) -> Wallet:
        """Put a voucher's whole amount into your voucher balance."""
        self.connection.send("POST", "/vouchers/redeem", RedeemRequest(code=code), once=True)
        return self.wallet()

    def prices(self) -> list[Price]:
        return list(self.connection.pages("/prices", Price))

    # Operator

    def top_up(self, user: str, amount_cny: str) -> TopUp:
        """Put money into a user's wallet (operator)."""
        request = TopUpRequest(user=user, amount_cny=amount_cny)
        return self.connection.post("/operator/topups", TopUp, request, once=True)

    def issue_voucher(
        self, amount_cny: str, *, for_user: str | None = None, days: int = 365
    ) -> IssuedVoucher:
        """Make a voucher (operator); its code is shown this once."""
        request = VoucherRequest(amount_cny=amount_cny, for_user=for_user, expires_in_days=days)
        return self.connection.post("/operator/vouchers", IssuedVoucher, request, once=True)

    def set_limit(self, user: str, limit_cny: str | None) -> ExposureLimit:
        """How much a user's runs may come to owe (operator); None for the network's own."""
        request = LimitRequest(user=user, limit_cny=limit_cny)
        return self.connection.put("/operator/limits", ExposureLimit, request)

    def set_price(self, price_cny_per_th: str, *, effective_from: datetime | None = None) -> Price:
        """Change the price of one T·H from a time on, now by default (operator)."""
        request = PriceRequest(price_cny_per_th=price_cny_per_th, effective_from=effective_from)
        return self.connection.post("/operator/prices", Price, request, once=True)
