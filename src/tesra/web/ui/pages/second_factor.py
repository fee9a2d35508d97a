"""The second factor of your account: set up with a QR code, recovery codes shown once, turned off."""

from contextlib import AbstractAsyncContextManager

from fastapi import Response

from tesra.db.engine import Tx
from tesra.identity.qr import qr_svg
from tesra.identity.second_factor import Enrolment, EnrolmentMissing
from tesra.kit.errors import TesraError
from tesra.web.problems import status_of
from tesra.web.proving import origin_of, proven
from tesra.web.ui.forms import Form, Posted
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import Member, Visit, Visitor

router = PageRouter()

PLACE = "/account/second-factor"
SECRET_GROUP = 4


@router.get(PLACE)
async def second_factor_page(visit: Member) -> Response:
    return await _page(visit)


@router.post(PLACE + "/begin")
async def begin(visit: Visitor, form: Posted) -> Response:
    """A secret for the app; it is on once a code of it was given."""
    try:
        async with proven(
            visit.services,
            visit.writer,
            origin_of(visit.request),
            password=form.raw("password"),
            code=None,
        ) as tx:
            await visit.services.factors.begin(tx, visit.member)
    except TesraError as error:
        return await _page(visit, error=error)
    return visit.redirect(PLACE)


@router.post(PLACE + "/confirm")
async def confirm(visit: Visitor, form: Posted) -> Response:
    """Turns it on; the recovery codes stand on the answer, this once."""
    try:
        async with visit.services.database.begin() as tx:
            codes = await visit.services.factors.confirm(tx, visit.writer, form["code"])
    except TesraError as error:
        return await _page(visit, error=error)
    return _codes(visit, codes, visit.say("The second factor is on"))


@router.post(PLACE + "/codes")
async def renew_codes(visit: Visitor, form: Posted) -> Response:
    """Ten new recovery codes; all before stop working."""
    try:
        async with _proven(visit, form) as tx:
            codes = await visit.services.factors.renew_codes(tx, visit.member)
    except TesraError as error:
        return await _page(visit, error=error)
    return _codes(visit, codes, visit.say("New recovery codes"))


@router.post(PLACE + "/off")
async def turn_off(visit: Visitor, form: Posted) -> Response:
    try:
        async with _proven(visit, form) as tx:
            await visit.services.factors.turn_off(tx, visit.member)
    except TesraError as error:
        return await _page(visit, error=error)
    return visit.redirect(PLACE, flash=visit.say("The second factor is off."))


def _proven(visit: Visit, form: Form) -> AbstractAsyncContextManager[Tx]:
    """A transaction for who has given password and code."""
    return proven(
        visit.services,
        visit.writer,
        origin_of(visit.request),
        password=form.raw("password"),
        code=form["code"] or None,
    )


async def _page(visit: Visit, *, error: TesraError | None = None) -> Response:
    services, caller = visit.services, visit.member
    async with services.database.begin() as tx:
        state = await services.factors.state(tx, caller.user_id)
        begun: Enrolment | None = None
        if state.begun and not state.on:
            try:
                begun = await services.factors.enrolment(tx, caller)
            except EnrolmentMissing:
                begun = None
    return visit.page(
        "account/second_factor.html",
        status=status_of(error) if error else 200,
        error=visit.words(error) if error else None,
        way_out=visit.way_out(error) if error else None,
        state=state,
        begun=begun,
        qr=qr_svg(begun.uri, title=visit.say("QR code for an authenticator app"))
        if begun
        else None,
        spelled=_grouped(begun.secret) if begun else None,
    )


def _codes(visit: Visit, codes: list[str], title: str) -> Response:
    return visit.page("account/recovery_codes.html", codes=codes, heading=title)


def _grouped(secret: str) -> str:
    """A secret as one types it."""
    return " ".join(secret[i : i + SECRET_GROUP] for i in range(0, len(secret), SECRET_GROUP))
