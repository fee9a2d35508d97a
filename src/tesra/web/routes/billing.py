"""Bills, payment, wallet, vouchers and prices; what operators add to them."""

from typing import Annotated

from fastapi import APIRouter, Path

from tesra.billing import model, pricing
from tesra.db.engine import Tx
from tesra.db.notify import notify_all, topic_with
from tesra.kit.ids import BillId, UserId
from tesra.kit.money import format_cny, format_micros, parse_cny
from tesra.web.auth import Operator, Reader, Writer
from tesra.web.context import ServicesDep
from tesra.web.idempotency import IdempotencyKey, once
from tesra.web.pages import PageAsk, page_of
from tesra.wire import billing as wire
from tesra.wire.common import Page

router = APIRouter(prefix="/api/v1", tags=["billing"])

BillPath = Annotated[str, Path(max_length=64)]


@router.get("/bills")
async def bills(caller: Reader, services: ServicesDep, ask: PageAsk) -> Page[wire.BillSummary]:
    """Your bills, newest first."""
    async with services.database.begin() as tx:
        found = await services.billing.bills(tx, caller.user_id, ask.after, ask.limit + 1)
    return page_of([wire.BillSummary.model_validate(_summary(bill)) for bill in found], ask.limit)


@router.get("/bills/{bill_id}")
async def bill(bill_id: BillPath, caller: Reader, services: ServicesDep) -> wire.Bill:
    """One of your bills, with every line explained."""
    async with services.database.begin() as tx:
        return _bill(await services.billing.bill(tx, caller.user_id, BillId(bill_id)))


@router.post("/bills/{bill_id}/pay")
async def pay(
    bill_id: BillPath,
    body: wire.PayRequest,
    caller: Writer,
    services: ServicesDep,
    key: IdempotencyKey,
) -> wire.Bill:
    """Pays a bill whole: vouchers first (soonest expiry first), then the wallet. 402 if short.

    A voucher given along is redeemed before, and only if the payment goes through. A paid bill
    is answered unchanged.
    """

    async def act(tx: Tx) -> wire.Bill:
        paid = await services.billing.pay(
            tx, caller.user_id, BillId(bill_id), key=key, voucher_code=body.voucher
        )
        mine = topic_with(f"user:{caller.user_id}", bill=bill_id)
        await notify_all(tx, ["dispatch", mine])  # "dispatch": runs that wait for this payment
        return _bill(paid)

    return await once(services, caller, key, body, act)


@router.get("/wallet")
async def wallet(caller: Reader, services: ServicesDep) -> wire.Wallet:
    """Your balance, vouchers, what you owe, and the latest movements."""
    async with services.database.begin() as tx:
        return _wallet(await services.billing.wallet(tx, caller.user_id))


@router.put("/wallet/autopay")
async def autopay(body: wire.AutopayRequest, caller: Writer, services: ServicesDep) -> wire.Wallet:
    """Whether bills are paid as they are made, when your money covers all of one."""
    async with services.database.begin() as tx:
        await services.billing.set_autopay(tx, caller.user_id, body.on)
        return _wallet(await services.billing.wallet(tx, caller.user_id))


@router.post("/vouchers/redeem")
async def redeem(
    body: wire.RedeemRequest, caller: Writer, services: ServicesDep, key: IdempotencyKey
) -> wire.VoucherBalance:
    """Puts a voucher's whole amount into your voucher balance."""

    async def act(tx: Tx) -> wire.VoucherBalance:
        return _lot(await services.billing.redeem(tx, caller.user_id, body.code))

    return await once(services, caller, key, body, act)


@router.get("/prices")
async def prices(caller: Reader, services: ServicesDep) -> Page[wire.Price]:  # noqa: ARG001 - signed in
    """The price book, the oldest first; usage costs what was in force when it began."""
    async with services.database.begin() as tx:
        book = await services.billing.prices(tx)
    current = pricing.price_at(book, services.clock.now())
    return Page(items=[_price(price, current=price.id == current.id) for price in book])


@router.post("/operator/topups", status_code=201, tags=["operator"])
async def topup(
    body: wire.TopUpRequest, caller: Operator, services: ServicesDep, key: IdempotencyKey
) -> wire.TopUp:
    """Money received from a user, into the wallet."""
    amount_micros = parse_cny(body.amount_cny)

    async def act(tx: Tx) -> wire.TopUp:
        user = await services.identity.user_by_name(tx, body.user)
        await services.billing.topup(
            tx,
            caller.user_id,
            user.id,
            amount_micros=amount_micros,
            key=None if key is None else f"{caller.user_id}:{key}",
        )
        return wire.TopUp(user=user.name, amount_cny=format_cny(amount_micros))

    return await once(services, caller, key, body, act)


@router.post("/operator/vouchers", status_code=201, tags=["operator"])
async def issue_voucher(
    body: wire.VoucherRequest, caller: Operator, services: ServicesDep, key: IdempotencyKey
) -> wire.IssuedVoucher:
    """A voucher for whoever has its code, or for one user only. The code is shown once."""
    amount_micros = parse_cny(body.amount_cny)

    async def act(tx: Tx) -> wire.IssuedVoucher:
        for_user: UserId | None = None
        if body.for_user is not None:
            for_user = (await services.identity.user_by_name(tx, body.for_user)).id
        issued = await services.billing.issue_voucher(
            tx,
            caller.user_id,
            amount_micros=amount_micros,
            for_user=for_user,
            days=body.expires_in_days,
        )
        return wire.IssuedVoucher(
            code=issued.code,
            amount_cny=format_cny(issued.amount_micros),
            for_user=body.for_user,
            expires_at=issued.expires_at,
        )

    return await once(services, caller, key, body, act)


@router.post("/operator/prices", status_code=201, tags=["operator"])
async def set_price(
    body: wire.PriceRequest, caller: Operator, services: ServicesDep, key: IdempotencyKey
) -> wire.Price:
    """The price of one T·H from a time on (now by default), never in the past."""
    price_micros = pricing.parse_price(body.price_cny_per_th)

    async def act(tx: Tx) -> wire.Price:
        price = await services.billing.set_price(
            tx, caller.user_id, price_micros, body.effective_from
        )
        return _price(price, current=price.effective_from <= services.clock.now())

    return await once(services, caller, key, body, act)


@router.put("/operator/limits", tags=["operator"])
async def set_limit(
    body: wire.LimitRequest, _caller: Operator, services: ServicesDep
) -> wire.ExposureLimit:
    """How much one user's runs may come to owe before they are paid; null for the network's own."""
    micros = None if body.limit_cny is None else pricing.parse_price(body.limit_cny)
    async with services.database.begin() as tx:
        user = await services.identity.user_by_name(tx, body.user)
        holds = await services.billing.set_exposure_limit(tx, user.id, micros)
    return wire.ExposureLimit(user=user.name, limit_cny=format_cny(holds))


def _summary(bill: model.BillSummary) -> dict[str, object]:
    return {
        "id": bill.id,
        "run": bill.run_id,
        "state": bill.state,
        "amount_cny": bill.amount_cny,
        "amount_micros": bill.amount_micros,
        "th": format_micros(bill.micro_th),
        "created_at": bill.created_at,
        "paid_at": bill.paid_at,
    }


def _bill(bill: model.Bill) -> wire.Bill:
    return wire.Bill.model_validate(
        {
            **_summary(bill),
            "lines": [_line(line) for line in bill.lines],
            "payments": [
                wire.Payment(source=p.source, amount_cny=format_cny(p.amount_micros), at=p.at)
                for p in bill.payments
            ],
            "note": bill.note,
        }
    )


def _line(line: model.BillLine) -> wire.BillLine:
    return wire.BillLine(
        attempt=line.attempt,
        started_at=line.started_at,
        ended_at=line.ended_at,
        duration_ms=line.duration_ms,
        devices=line.devices,
        device_class=line.device_class,
        rating_micro_t=line.rating_micro_t,
        micro_th=line.micro_th,
        th=format_micros(line.micro_th),
        price_cny=format_micros(line.price_micros),
        amount_micros=line.amount_micros,
        amount_cny=format_cny(line.amount_micros, 6),
        explanation=pricing.explain(line),
        run=line.run_id,
        trial=line.trial,
    )


def _wallet(wallet: model.Wallet) -> wire.Wallet:
    return wire.Wallet(
        balance_cny=format_cny(wallet.balance_micros),
        vouchers_cny=format_cny(wallet.vouchers_micros),
        unpaid_cny=format_cny(wallet.unpaid_micros),
        autopay=wallet.autopay,
        vouchers=[_lot(lot) for lot in wallet.lots],
        entries=[
            wire.WalletEntry(
                at=entry.at,
                kind=entry.kind,
                amount_cny=format_cny(entry.amount_micros),
                memo=entry.memo,
            )
            for entry in wallet.entries
        ],
    )


def _lot(lot: model.VoucherLot) -> wire.VoucherBalance:
    return wire.VoucherBalance(
        id=lot.id,
        amount_cny=format_cny(lot.amount_micros),
        remaining_cny=format_cny(lot.remaining_micros),
        expires_at=lot.expires_at,
        origin=lot.origin.value,
    )


def _price(price: model.Price, *, current: bool) -> wire.Price:
    return wire.Price(
        id=price.id,
        price_cny_per_th=format_micros(price.micros_per_th),
        effective_from=price.effective_from,
        current=current,
    )
