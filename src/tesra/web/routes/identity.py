"""Registration, login, tokens; the list of users for operators."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from tesra.db.engine import Tx
from tesra.identity import model, permissions
from tesra.web import proving
from tesra.web.auth import Caller, Operator, Reader, Writer
from tesra.web.context import ServicesDep
from tesra.web.idempotency import IdempotencyKey, once
from tesra.web.pages import PageAsk, page_of
from tesra.wire import identity as wire
from tesra.wire.common import Page

router = APIRouter(prefix="/api/v1", tags=["identity"])


@router.post("/register", status_code=201)
async def register(body: wire.Credentials, request: Request, services: ServicesDep) -> wire.Session:
    """Makes an account and signs in. A name is unique whatever its case; it can't be changed.

    An address makes a bounded number of accounts an hour.
    """
    origin = proving.origin_of(request)
    return _session(
        *await proving.sign_up(services, origin, name=body.name, password=body.password)
    )


@router.post("/login")
async def login(body: wire.LoginRequest, request: Request, services: ServicesDep) -> wire.Session:
    """Signs in with name and password. Too many failures close the door for five minutes.

    401 `second_factor_needed`: both were right, and a `code` is wanted too.
    """
    origin = proving.origin_of(request)
    return _session(
        *await proving.sign_in(
            services, origin, name=body.name, password=body.password, code=body.code
        )
    )


@router.post("/logout", status_code=204)
async def logout(caller: Caller, services: ServicesDep) -> Response:
    """Revokes the token that this call is made with."""
    async with services.database.begin() as tx:
        await services.identity.revoke(tx, caller.user_id, token_id=caller.token_id)
    return Response(status_code=204)


@router.get("/me")
async def me(caller: Reader, services: ServicesDep) -> wire.User:
    """Who the token belongs to."""
    async with services.database.begin() as tx:
        return _user(await services.identity.user(tx, caller.user_id))


@router.get("/tokens")
async def tokens(
    caller: Reader, services: ServicesDep, ask: PageAsk, kind: wire.TokenKind | None = None
) -> Page[wire.Token]:
    """Your tokens that still work, newest first; sessions too, unless a `kind` is given."""
    async with services.database.begin() as tx:
        found = await services.identity.tokens(
            tx,
            caller.user_id,
            after=ask.after,
            limit=ask.limit + 1,
            kind=model.TokenKind(kind) if kind else None,
        )
    return page_of([_token(token, caller.token_id) for token in found], ask.limit)


@router.post("/tokens", status_code=201)
async def create_token(
    body: wire.TokenRequest, caller: Writer, services: ServicesDep, key: IdempotencyKey
) -> wire.NewToken:
    """A new token, of no more scope than the one this call is made with. It is shown once."""

    # Also for a repeated call: a lesser token must not be told the first call's answer.
    permissions.grantable(caller, body.scopes)

    async def act(tx: Tx) -> wire.NewToken:
        issued = await services.identity.create_token(
            tx, caller, name=body.name, scopes=body.scopes, days=body.expires_in_days
        )
        return wire.NewToken(**_token(issued.token).model_dump(), token=issued.text)

    return await once(services, caller, key, body, act)


@router.delete("/tokens/{token_id}", status_code=204)
async def revoke_token(
    token_id: Annotated[str, Path(max_length=64)], caller: Writer, services: ServicesDep
) -> Response:
    """Revokes one of your tokens; it stops working at once."""
    async with services.database.begin() as tx:
        await services.identity.revoke(tx, caller.user_id, token_id=token_id)
    return Response(status_code=204)


@router.get("/operator/users", tags=["operator"])
async def users(
    _: Operator,
    services: ServicesDep,
    ask: PageAsk,
    search: Annotated[str | None, Query(max_length=64, description="A part of the name")] = None,
) -> Page[wire.User]:
    """Everybody, in order of registration."""
    async with services.database.begin() as tx:
        found = await services.identity.users(
            tx, after=ask.after, limit=ask.limit + 1, search=search
        )
    return page_of([_user(user) for user in found], ask.limit)


def _user(user: model.User) -> wire.User:
    return wire.User(id=user.id, name=user.name, role=user.role.value, created_at=user.created_at)


def _session(user: model.User, issued: model.IssuedToken) -> wire.Session:
    return wire.Session(token=issued.text, expires_at=issued.token.expires_at, user=_user(user))


def _token(token: model.Token, current: str | None = None) -> wire.Token:
    return wire.Token.model_validate(
        {
            "id": token.id,
            "name": token.name,
            "scopes": sorted(token.scopes),
            "created_at": token.created_at,
            "expires_at": token.expires_at,
            "last_used_at": token.last_used_at,
            "kind": token.kind.value,
            "current": token.id == current,
        }
    )
