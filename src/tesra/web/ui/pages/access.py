"""Where you are signed in, and the tokens that your programs use: seen, made, ended."""

from fastapi import Response
from pydantic import ValidationError

from tesra.db.engine import Tx
from tesra.identity import permissions
from tesra.identity.model import IssuedToken, TokenKind
from tesra.kit.errors import Invalid, TesraError
from tesra.web.idempotency import CallKey, once
from tesra.web.problems import status_of
from tesra.web.ui.forms import Form, Posted
from tesra.web.ui.programs import program_of
from tesra.web.ui.routing import PageRouter
from tesra.web.ui.visit import Member, Visit, Visitor
from tesra.wire.identity import NewToken, TokenRequest

router = PageRouter()

PLACE = "/account/access"
SHOWN = 50
LIFETIMES_DAYS = (30, 90, 365)


class TokenNameInvalid(Invalid):
    """A token's name has 1 to 64 characters."""


@router.get(PLACE)
async def access_page(visit: Member, sessions: str = "", tokens: str = "") -> Response:
    return await _page(visit, sessions_after=sessions, tokens_after=tokens)


@router.post("/account/sessions/{session}/revoke")
async def revoke_session(session: str, visit: Visitor, form: Posted) -> Response:  # noqa: ARG001
    async with visit.services.database.begin() as tx:
        await visit.services.account.revoke_session(tx, visit.writer.user_id, session_id=session)
    return visit.redirect(PLACE, flash=visit.say("That session has ended."))


@router.post("/account/sessions/revoke-others")
async def revoke_others(visit: Visitor, form: Posted) -> Response:  # noqa: ARG001
    async with visit.services.database.begin() as tx:
        ended = await visit.services.account.revoke_other_sessions(tx, visit.writer)
    said = visit.language.say_many(
        "%(num)s other session has ended.", "%(num)s other sessions have ended.", ended
    )
    return visit.redirect(PLACE, flash=said)


@router.post("/account/tokens")
async def make_token(visit: Visitor, form: Posted) -> Response:
    """The token stands on the answer, this once; sent twice, it is the same one."""
    caller = visit.writer

    async def act(tx: Tx) -> NewToken:
        issued = await visit.services.identity.create_token(
            tx, caller, name=wanted.name, scopes=wanted.scopes, days=wanted.expires_in_days
        )
        return _new(issued)

    try:
        wanted = _wanted(form)
        permissions.grantable(caller, wanted.scopes)
        key = CallKey.of(form["once"], f"POST {PLACE}") if form["once"] else None
        made = await once(visit.services, caller, key, wanted, act)
    except TesraError as error:
        return await _page(visit, error=error, form=form)
    return await _page(visit, made=made)


@router.post("/account/tokens/{token}/revoke")
async def revoke_token(token: str, visit: Visitor, form: Posted) -> Response:  # noqa: ARG001
    async with visit.services.database.begin() as tx:
        await visit.services.identity.revoke(tx, visit.writer.user_id, token_id=token)
    return visit.redirect(PLACE, flash=visit.say("That token works no more."))


async def _page(
    visit: Visit,
    *,
    sessions_after: str = "",
    tokens_after: str = "",
    made: NewToken | None = None,
    error: TesraError | None = None,
    form: Form | None = None,
) -> Response:
    services, caller = visit.services, visit.member
    async with services.database.begin() as tx:
        sessions = await services.account.sessions(
            tx, caller.user_id, after=sessions_after or None, limit=SHOWN + 1
        )
        tokens = await services.identity.tokens(
            tx,
            caller.user_id,
            after=tokens_after or None,
            limit=SHOWN + 1,
            kind=TokenKind.TOKEN,
        )
    return visit.page(
        "account/access.html",
        status=status_of(error) if error else 200,
        error=visit.words(error) if error else None,
        way_out=visit.way_out(error) if error else None,
        sessions=[(one, program_of(one.user_agent)) for one in sessions[:SHOWN]],
        more_sessions=sessions[SHOWN - 1].id if len(sessions) > SHOWN else None,
        tokens=tokens[:SHOWN],
        more_tokens=tokens[SHOWN - 1].id if len(tokens) > SHOWN else None,
        made=made,
        typed_name=form["name"] if form else "",
        scopes=sorted(caller.scopes),
        lifetimes=LIFETIMES_DAYS,
    )


def _wanted(form: Form) -> TokenRequest:
    try:
        return TokenRequest.model_validate(
            {
                "name": form["name"],
                "scopes": form.all("scope"),
                "expires_in_days": int(form["days"]) if form["days"].isdecimal() else None,
            }
        )
    except ValidationError as error:
        raise TokenNameInvalid from error


def _new(issued: IssuedToken) -> NewToken:
    token = issued.token
    return NewToken.model_validate(
        {
            "id": token.id,
            "name": token.name,
            "scopes": sorted(token.scopes),
            "created_at": token.created_at,
            "expires_at": token.expires_at,
            "last_used_at": token.last_used_at,
            "token": issued.text,
        }
    )
