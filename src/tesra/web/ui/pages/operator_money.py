"""What operators do with money: the price book, vouchers, top-ups. Each act happens once."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import Response
from pydantic import ValidationError

from tesra.billing.pricing import parse_price, price_at
from tesra.db.engine import Tx
from tesra.kit.errors import Invalid, TesraError
from tesra.kit.money import format_cny, parse_cny
from tesra.web import operating
from tesra.web.idempotency import once
from tesra.web.pages import PageAsk, page_of
from tesra.web.problems import status_of
from tesra.web.ui.forms import Posted
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import OperatorVisit, Visit
from tesra.wire.billing import (
    IssuedVoucher,
    Price,
    PriceRequest,
    TopUp,
    TopUpRequest,
    VoucherRequest,
)

router = PageRouter()

PAGE = 50
MOST_ZONE_MINUTES = 24 * 60
Typed = dict[str, str]


class FormIncomplete(Invalid):
    """Something in this form is missing or too long."""


class TimeUnreadable(Invalid):
    """This is no date and time."""


@router.get("/operator/prices")
async def prices(visit: OperatorVisit) -> Response:
    return await _prices(visit)


@router.post("/operator/prices")
async def set_price(visit: OperatorVisit, form: Posted) -> Response:
    """The price of one T·H, from now or from a later time on."""
    services, member = visit.services, visit.member
    typed = {name: form[name] for name in ("price", "from", "zone_minutes")}

    async def act() -> str:
        start = _moment(form["from"], form["zone_minutes"])
        request = PriceRequest(price_cny_per_th=form["price"], effective_from=start)
        micros = parse_price(request.price_cny_per_th)

        async def put(tx: Tx) -> Price:
            made = await services.billing.set_price(tx, member.user_id, micros, start)
            return Price(
                id=made.id,
                price_cny_per_th=format_cny(made.micros_per_th, 6),
                effective_from=made.effective_from,
                current=made.effective_from <= services.clock.now(),
            )

        price = await once(services, member, form["once"] or None, request, put)
        return visit.say(
            "One T·H costs %(price)s from %(at)s on.",
            price=visit.language.cny(price.price_cny_per_th, exact=True),
            at=visit.language.moment(price.effective_from),
        )

    return await _done(
        visit, act, "/operator/prices", lambda error: _prices(visit, typed=typed, error=error)
    )


@router.get("/operator/topups")
async def topups(visit: OperatorVisit, ask: PageAsk) -> Response:
    typed = {"user": visit.request.query_params.get("user", "")[:64]}
    return await _topups(visit, ask.after, typed=typed)


@router.post("/operator/topups")
async def topup(visit: OperatorVisit, form: Posted) -> Response:
    """Money received from a user, into the wallet."""
    services, member = visit.services, visit.member
    typed = {name: form[name] for name in ("user", "amount")}

    async def act() -> str:
        request = TopUpRequest(user=form["user"], amount_cny=form["amount"])
        micros, key = parse_cny(request.amount_cny), form["once"] or None

        async def put(tx: Tx) -> TopUp:
            user = await services.identity.user_by_name(tx, request.user)
            posted = f"{member.user_id}:{key}" if key else None
            await services.billing.topup(
                tx, member.user_id, user.id, amount_micros=micros, key=posted
            )
            return TopUp(user=user.name, amount_cny=format_cny(micros))

        made = await once(services, member, key, request, put)
        return visit.say(
            "%(amount)s are in the wallet of %(user)s.",
            amount=visit.language.cny(made.amount_cny),
            user=made.user,
        )

    return await _done(
        visit, act, "/operator/topups", lambda error: _topups(visit, typed=typed, error=error)
    )


@router.post("/operator/topups/take-back")
async def take_back(visit: OperatorVisit, form: Posted) -> Response:
    """A whole top-up, while all of it is there still; a second press changes nothing."""
    services = visit.services

    async def act() -> str:
        async with services.database.begin() as tx:
            await services.billing.reverse(
                tx, visit.member.user_id, form["id"], reason="taken back"
            )
        return visit.say("The top-up is taken back.")

    return await _done(visit, act, "/operator/topups", lambda error: _topups(visit, error=error))


@router.get("/operator/vouchers")
async def vouchers(visit: OperatorVisit, ask: PageAsk) -> Response:
    return await _vouchers(visit, ask.after)


@router.post("/operator/vouchers")
async def issue(visit: OperatorVisit, form: Posted) -> Response:
    """A voucher; its code stands on this answer and nowhere else."""
    services, member = visit.services, visit.member
    typed = {name: form[name] for name in ("amount", "for_user", "days")}
    try:
        request = _read(
            VoucherRequest,
            amount_cny=form["amount"],
            for_user=form["for_user"] or None,
            expires_in_days=form["days"] or 365,
        )
        micros = parse_cny(request.amount_cny)

        async def put(tx: Tx) -> IssuedVoucher:
            owner = None
            if request.for_user is not None:
                owner = await services.identity.user_by_name(tx, request.for_user)
            made = await services.billing.issue_voucher(
                tx,
                member.user_id,
                amount_micros=micros,
                for_user=owner.id if owner else None,
                days=request.expires_in_days,
            )
            return IssuedVoucher(
                code=made.code,
                amount_cny=format_cny(micros),
                for_user=owner.name if owner else None,
                expires_at=made.expires_at,
            )

        issued = await once(services, member, form["once"] or None, request, put)
    except TesraError as error:
        return await _vouchers(visit, typed=typed, error=error)
    return await _vouchers(visit, issued=issued)


async def _done(
    visit: Visit,
    act: Callable[[], Awaitable[str]],
    target: str,
    again: Callable[[TesraError], Awaitable[Response]],
) -> Response:
    """``act`` and see the list with what it says; the form again where it is refused."""
    try:
        said = await act()
    except ValidationError:
        return await again(FormIncomplete())
    except TesraError as error:
        return await again(error)
    return visit.redirect(target, flash=said)


def _read(model: Any, **values: object) -> Any:
    try:
        return model(**values)
    except ValidationError as error:
        raise FormIncomplete from error


def _moment(text: str, zone_minutes: str) -> datetime | None:
    """What a date-and-time field holds, in the reader's own time: so many minutes behind UTC."""
    if not text:
        return None
    try:
        behind = int(zone_minutes or 0)
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise TimeUnreadable from error
    if abs(behind) > MOST_ZONE_MINUTES or not 1970 < at.year < 3000:
        raise TimeUnreadable
    if at.tzinfo is not None:
        return at
    return (at + timedelta(minutes=behind)).replace(tzinfo=UTC)


def _refusal(visit: Visit, error: TesraError | None) -> dict[str, Any]:
    return {
        "status": status_of(error) if error else 200,
        "error": visit.words(error) if error else None,
    }


async def _prices(
    visit: Visit, *, typed: Typed | None = None, error: TesraError | None = None
) -> Response:
    now = visit.services.clock.now()
    async with visit.services.database.begin() as tx:
        book = await visit.services.billing.prices(tx)
    return visit.page(
        "operator/prices.html",
        book=list(reversed(book)),
        current=price_at(book, now),
        now=now,
        typed=typed or {"price": "", "from": "", "zone_minutes": ""},
        **_refusal(visit, error),
    )


async def _topups(
    visit: Visit,
    before: str | None = None,
    *,
    typed: Typed | None = None,
    error: TesraError | None = None,
) -> Response:
    found, names = await operating.topups(visit.services, before, PAGE + 1)
    page = page_of(found, PAGE, id_of=lambda one: one.key)
    return visit.page(
        "operator/topups.html",
        topups=page.items,
        next=page.next,
        after=before,
        names=names,
        typed={"user": "", "amount": "", **(typed or {})},
        **_refusal(visit, error),
    )


async def _vouchers(
    visit: Visit,
    before: str | None = None,
    *,
    typed: Typed | None = None,
    issued: IssuedVoucher | None = None,
    error: TesraError | None = None,
) -> Response:
    found, names = await operating.vouchers(visit.services, before, PAGE + 1)
    page = page_of(found, PAGE)
    return visit.page(
        "operator/vouchers.html",
        vouchers=page.items,
        next=page.next,
        after=before,
        names=names,
        issued=issued,
        typed=typed or {"amount": "", "for_user": "", "days": "365"},
        **_refusal(visit, error),
    )
