"""Who is calling: dependencies that authenticate by Bearer token, or by a browser's session.

A browser sends its cookie with every request, also with one that another site made it send. So a
call that changes something needs the header ``X-CSRF-Token`` beside the cookie.
"""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from tesra.identity import permissions
from tesra.identity.model import Principal, TokenMissing
from tesra.web.context import ServicesDep
from tesra.web.session import CSRF_HEADER, SAFE_METHODS, require_meant, session_of

_bearer = HTTPBearer(
    auto_error=False, scheme_name="token", description="`Authorization: Bearer tsr_…`"
)


async def caller(
    request: Request,
    services: ServicesDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Principal:
    """Whoever the token belongs to; raises ``Unauthenticated`` without a valid one."""
    token = credentials.credentials if credentials else session_of(request)
    if token is None:
        raise TokenMissing(way_out="Sign in with 'tesra login', or set TESRA_TOKEN.")
    if credentials is None and request.method not in SAFE_METHODS:
        require_meant(token, request.headers.get(CSRF_HEADER))
    async with services.database.begin() as tx:
        return await services.identity.authenticate(tx, token)


Caller = Annotated[Principal, Depends(caller)]


async def _reader(principal: Caller) -> Principal:
    permissions.require(principal, permissions.READ)
    return principal


async def _writer(principal: Caller) -> Principal:
    permissions.require(principal, permissions.WRITE)
    return principal


async def _operator(principal: Caller) -> Principal:
    permissions.require(principal, permissions.OPERATE)
    return principal


Reader = Annotated[Principal, Depends(_reader)]
Writer = Annotated[Principal, Depends(_writer)]
Operator = Annotated[Principal, Depends(_operator)]
