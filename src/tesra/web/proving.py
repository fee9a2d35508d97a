"""Signing up, signing in, and proving it again: the steps that the API and the pages share.

No password is hashed in a transaction, and each failure is counted before it is known.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request

from tesra.db.engine import Tx
from tesra.identity.model import IssuedToken, Principal, User
from tesra.identity.origins import Origin
from tesra.web.context import Services


def origin_of(request: Request) -> Origin:
    """Where a request comes from."""
    address = request.client.host if request.client else None
    return Origin.of(address, request.headers.get("user-agent"))


async def sign_up(
    services: Services, origin: Origin, *, name: str, password: str
) -> tuple[User, IssuedToken]:
    """A new account, signed in.

    Raises ``TooManyRegistrations``, ``PasswordTooShort``, ``NameInvalid`` or ``NameTaken``.
    """
    async with services.database.begin() as tx:
        await services.identity.admit_registration(tx, address=origin.address)
    password_hash = await services.identity.prepare_password(password)
    async with services.database.begin() as tx:
        return await services.identity.register(
            tx, name, password_hash=password_hash, origin=origin
        )


async def sign_in(
    services: Services, origin: Origin, *, name: str, password: str, code: str | None = None
) -> tuple[User, IssuedToken]:
    """A session for who knows name, password, and the code of a second factor that is on.

    Raises ``TooManyLogins``, ``WrongCredentials``, ``SecondFactorNeeded``, ``SecondFactorWrong``.
    """
    identity = services.identity
    async with services.database.begin() as tx:
        attempt = await identity.admit_login(tx, name, address=origin.address)
    new_hash = await identity.check_password(attempt, password)
    async with services.database.begin() as tx:
        return await identity.finish_login(tx, attempt, new_hash=new_hash, code=code, origin=origin)


@asynccontextmanager
async def proven(
    services: Services, caller: Principal, origin: Origin, *, password: str, code: str | None
) -> AsyncIterator[Tx]:
    """A transaction for what needs password and code again, whoever holds the session.

    Raises ``TooManyLogins``, ``PasswordWrong``, ``PasswordMissing``, ``SecondFactorNeeded`` or
    ``SecondFactorWrong``; failures count against the limits of logins.
    """
    identity = services.identity
    async with services.database.begin() as tx:
        attempt = await identity.admit_login(tx, caller.name, address=origin.address)
    await identity.check_own_password(attempt, password)
    async with services.database.begin() as tx:
        await identity.prove(tx, attempt, code=code)
        yield tx
