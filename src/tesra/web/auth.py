"""Who is calling: dependencies that authenticate by Bearer token and demand a scope."""

from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from tesra.identity import permissions
from tesra.identity.model import Principal, TokenMissing
from tesra.web.context import ServicesDep

_bearer = HTTPBearer(
    auto_error=False, scheme_name="token", description="`Authorization: Bearer tsr_…`"
)


async def caller(
    services: ServicesDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Principal:
    """Whoever the token belongs to; raises ``Unauthenticated`` without a valid one."""
    if credentials is None:
        raise TokenMissing(way_out="Sign in with 'tesra login', or set TESRA_TOKEN.")
    async with services.database.begin() as tx:
        return await services.identity.authenticate(tx, credentials.credentials)


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
