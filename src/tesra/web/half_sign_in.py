"""A sign-in whose password was right and whose code is still missing: kept by the browser, sealed.

The password is not asked twice, and the server keeps nothing: who it is stands in a cookie that
only this server can read, bound to the browser's visit, good for ten minutes, and worth nothing
once the password is another one. Each code counts against the limits of logins as any attempt.
"""

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

from tesra.crypto.aead import SealBroken
from tesra.identity.model import IssuedToken, User
from tesra.identity.origins import Origin
from tesra.identity.second_factor import SecondFactorNeeded
from tesra.kit.errors import Unauthenticated
from tesra.web.context import Services

HALF_COOKIE = "tesra_half"
HALF_LIFETIME_S = 600


class SignInTooOld(Unauthenticated):
    """This sign-in was begun too long ago: begin again."""


@dataclass(frozen=True, slots=True)
class HalfDone:
    """Who gave the right password; ``sealed`` is the cookie's value."""

    name: str
    sealed: str


async def begin(
    services: Services, origin: Origin, visit: str, *, name: str, password: str
) -> tuple[User, IssuedToken] | HalfDone:
    """A session, or a half-done sign-in of an account with a second factor.

    ``visit`` is the secret of the browser's visit. Raises as ``proving.sign_in`` does.
    """
    identity = services.identity
    async with services.database.begin() as tx:
        attempt = await identity.admit_login(tx, name, address=origin.address)
    new_hash = await identity.check_password(attempt, password)
    try:
        async with services.database.begin() as tx:
            return await identity.finish_login(tx, attempt, new_hash=new_hash, origin=origin)
    except SecondFactorNeeded:
        assert attempt.user is not None
        assert attempt.password_hash is not None
        kept = {
            "name": attempt.user.name,
            "of": _mark(attempt.password_hash),
            "until": services.clock.now().timestamp() + HALF_LIFETIME_S,
        }
        sealed = services.sealer.seal(json.dumps(kept).encode(), _context(visit))
        return HalfDone(attempt.user.name, urlsafe_b64encode(sealed).decode())


def read(services: Services, visit: str, sealed: str | None) -> str:
    """Whose sign-in it is; raises ``SignInTooOld``."""
    return str(_opened(services, visit, sealed)["name"])


async def finish(
    services: Services, origin: Origin, visit: str, *, sealed: str | None, code: str
) -> tuple[User, IssuedToken]:
    """The session, with a code of the app or of paper.

    Raises ``SignInTooOld``, ``TooManyLogins``, ``SecondFactorNeeded`` or ``SecondFactorWrong``.
    """
    kept = _opened(services, visit, sealed)
    async with services.database.begin() as tx:
        attempt = await services.identity.admit_login(tx, kept["name"], address=origin.address)
    known = attempt.password_hash
    if known is None or not hmac.compare_digest(_mark(known), str(kept["of"])):
        raise SignInTooOld("The password has just been changed.")
    async with services.database.begin() as tx:
        return await services.identity.finish_login(
            tx, attempt, new_hash=None, code=code, origin=origin
        )


def _opened(services: Services, visit: str, sealed: str | None) -> dict[str, str]:
    try:
        text = services.sealer.open(urlsafe_b64decode((sealed or "").encode()), _context(visit))
    except (SealBroken, ValueError) as error:
        raise SignInTooOld from error
    kept: dict[str, str] = json.loads(text)
    if float(kept["until"]) < services.clock.now().timestamp():
        raise SignInTooOld
    return kept


def _mark(password_hash: str) -> str:
    """Tells whether the password is still the same, and nothing else."""
    return hashlib.sha256(b"half sign-in:" + password_hash.encode()).hexdigest()


def _context(visit: str) -> bytes:
    return f"half sign-in:{visit}".encode()
