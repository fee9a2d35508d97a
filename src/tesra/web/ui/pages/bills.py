"""Bills: every line explained, paid in place; wallet, vouchers, use by month, receipts, tables."""

import csv
import io
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Query, Response
from fastapi.responses import StreamingResponse

from tesra.billing.model import Bill, BillSummary
from tesra.billing.pricing import price_at
from tesra.db.engine import Tx
from tesra.db.notify import notify
from tesra.kit.errors import TesraError
from tesra.kit.ids import BillId
from tesra.kit.money import format_micros
from tesra.web.idempotency import once
from tesra.web.pages import PageAsk, page_of
from tesra.web.problems import status_of
from tesra.web.ui.forms import Posted
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import Member, Visit, safe_next
from tesra.wire.billing import PayRequest, RedeemRequest
from tesra.wire.common import Answer

router = PageRouter()

PAGE = 50
CHART_DAYS = 366
MONTHS_SHOWN = 12
FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would take for one
STATES = {"unpaid": False, "paid": True}
State = Annotated[str | None, Query(pattern="^(paid|unpaid)?$")]


class Settled(Answer):
    """What stays of a payment or a voucher that was taken in, for a repeated call."""

    amount_micros: int


@router.get("/bills")
async def bills(visit: Member, ask: PageAsk, state: State = None) -> Response:
    """What is owed, the bills, the wallet, and what the months cost."""
    return await _bills(visit, ask.after, state or None)


@router.get("/bills.csv")
async def table(visit: Member) -> Response:
    """All bills, a line each."""
    return StreamingResponse(
        _table(visit),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="tesra-bills.csv"'},
    )


@router.post("/bills/autopay")
async def autopay(visit: Member, form: Posted) -> Response:
    on = form.flag("on")
    async with visit.services.database.begin() as tx:
        await visit.services.billing.set_autopay(tx, visit.member.user_id, on)
    said = visit.say("Bills are paid as they are made.") if on else visit.say("You pay by hand.")
    return visit.redirect("/bills", flash=said)


@router.post("/bills/vouchers")
async def redeem(visit: Member, form: Posted) -> Response:
    """A voucher's whole amount into the voucher balance."""
    services, member = visit.services, visit.member
    code = form["code"]

    async def act(tx: Tx) -> Settled:
        lot = await services.billing.redeem(tx, member.user_id, code)
        return Settled(amount_micros=lot.amount_micros)

    try:
        request = RedeemRequest(code=code)
        done = await once(services, member, form["once"] or None, request, act)
    except (TesraError, ValueError) as error:
        return await _bills(visit, None, None, code=code, error=error)
    said = visit.say("%(amount)s added to your vouchers.", amount=_money(visit, done.amount_micros))
    return visit.redirect("/bills", flash=said)


@router.get("/bills/{bill_id}")
async def bill(bill_id: str, visit: Member) -> Response:
    return await _bill(visit, bill_id)


@router.get("/bills/{bill_id}/receipt")
async def receipt(bill_id: str, visit: Member) -> Response:
    """The bill as it is printed."""
    return visit.page("bills/receipt.html", bill=await _load(visit, bill_id))


@router.get("/bills/{bill_id}/lines.csv")
async def lines(bill_id: str, visit: Member) -> Response:
    """A bill's lines, exact."""
    found = await _load(visit, bill_id)
    head = "run,trial,attempt,started_at,ended_at,duration_ms,devices,device_class,rating_t,th,price_cny,amount_cny"
    rows = (
        [
            line.run_id or found.run_id,
            "" if line.trial is None else line.trial,
            line.attempt,
            line.started_at.astimezone(UTC).isoformat(),
            line.ended_at.astimezone(UTC).isoformat(),
            line.duration_ms,
            line.devices,
            line.device_class,
            format_micros(line.rating_micro_t),
            format_micros(line.micro_th),
            format_micros(line.price_micros),
            format_micros(line.amount_micros),
        ]
        for line in found.lines
    )
    return Response(
        csv_text([head.split(",")]) + csv_text(rows),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="tesra-{found.id}.csv"'},
    )


@router.post("/bills/{bill_id}/pay")
async def pay(bill_id: str, visit: Member, form: Posted) -> Response:
    """Pays all of it: vouchers first, then the wallet; a voucher's code may come along."""
    services, member = visit.services, visit.member
    code, key = form["voucher"] or None, form["once"] or None

    async def act(tx: Tx) -> Settled:
        paid = await services.billing.pay(
            tx, member.user_id, BillId(bill_id), key=key, voucher_code=code
        )
        await notify(tx, "dispatch")  # runs that wait for this payment
        return Settled(amount_micros=paid.amount_micros)

    try:
        done = await once(services, member, key, PayRequest(voucher=code), act)
    except (TesraError, ValueError) as error:
        return await _bill(visit, bill_id, code=code or "", error=error)
    said = visit.say("Paid: %(amount)s.", amount=_money(visit, done.amount_micros))
    return visit.redirect(safe_next(form["next"], default=f"/bills/{bill_id}"), flash=said)


def csv_text(rows: Iterable[list[Any]]) -> str:
    """Rows as CSV; a cell that a spreadsheet would run as a formula is quoted as text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    for row in rows:
        writer.writerow([f"'{cell}" if str(cell).startswith(FORMULAS) else cell for cell in row])
    return text.getvalue()


async def _table(visit: Visit) -> AsyncIterator[str]:
    """The byte order mark tells spreadsheets that this is UTF-8."""
    yield "\ufeff" + csv_text([["bill", "run", "state", "made_at", "paid_at", "th", "amount_cny"]])
    after: str | None = None
    while True:
        async with visit.services.database.begin() as tx:
            part = await visit.services.billing.bills(tx, visit.member.user_id, after, 500)
        if not part:
            return
        after = part[-1].id
        yield csv_text(_row(one) for one in part)


def _row(one: BillSummary) -> list[str]:
    made, paid = one.created_at.astimezone(UTC), one.paid_at
    return [
        one.id,
        one.run_id,
        one.state,
        made.isoformat(timespec="seconds"),
        paid.astimezone(UTC).isoformat(timespec="seconds") if paid else "",
        format_micros(one.micro_th),
        one.amount_cny,
    ]


async def _bills(
    visit: Visit,
    after: str | None,
    state: str | None,
    *,
    code: str = "",
    error: TesraError | ValueError | None = None,
) -> Response:
    services, owner = visit.services, visit.member.user_id
    paid = STATES.get(state) if state else None
    async with services.database.begin() as tx:
        found = await services.billing.bills(tx, owner, after, PAGE + 1, paid=paid)
        wallet = await services.billing.wallet(tx, owner)
        days = await services.billing.billed_by_day(tx, owner, days=CHART_DAYS)
        book = await services.billing.prices(tx)
    page = page_of(found, PAGE)
    return visit.page(
        "bills/list.html",
        status=_status(error),
        bills=page.items,
        next=page.next,
        after=after,
        state=state,
        wallet=wallet,
        days=[[d.day.isoformat(), d.amount_micros, d.micro_th, d.bills] for d in days],
        book=book,
        price=price_at(book, services.clock.now()),
        code=code,
        error=_words(visit, error),
    )


async def _bill(
    visit: Visit, bill_id: str, *, code: str = "", error: TesraError | ValueError | None = None
) -> Response:
    found = await _load(visit, bill_id)
    async with visit.services.database.begin() as tx:
        wallet = await visit.services.billing.wallet(tx, visit.member.user_id)
    exact = sum(line.amount_micros for line in found.lines)
    return visit.page(
        "bills/bill.html",
        status=_status(error),
        bill=found,
        exact_micros=exact,
        wallet=wallet,
        code=code,
        error=_words(visit, error),
        made=datetime.now(UTC),
    )


async def _load(visit: Visit, bill_id: str) -> Bill:
    async with visit.services.database.begin() as tx:
        return await visit.services.billing.bill(tx, visit.member.user_id, BillId(bill_id[:64]))


def _status(error: TesraError | ValueError | None) -> int:
    if error is None:
        return 200
    return status_of(error) if isinstance(error, TesraError) else 422


def _words(visit: Visit, error: TesraError | ValueError | None) -> str | None:
    if error is None:
        return None
    if isinstance(error, TesraError):
        return visit.words(error)
    return visit.say("This is no voucher code.")


def _money(visit: Visit, micros: int) -> str:
    return visit.language.cny(micros)
