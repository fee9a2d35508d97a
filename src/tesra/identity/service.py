"""Identity: who people are, how they sign in, and what their tokens admit.

A login is three steps, so that no password is hashed while a transaction is open and no
concurrent guess goes uncounted: ``admit_login`` counts the attempt as failed (commit),
``check_password`` hashes, ``finish_login`` takes the count back and gives the token.
"""

import hmac
import ipaddress
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

from tesra.db.engine import Tx
from tesra.identity import permissions, repository, tokens
from tesra.identity.model import (
    IssuedToken,
    LoginAttempt,
    NameTaken,
    Principal,
    Role,
    Token,
    TokenExpired,
    TokenNotFound,
    TokenRevoked,
    TokenUnknown,
    TooManyLogins,
    User,
    UserUnknown,
    WrongCredentials,
    name_key,
    new_name,
    new_password,
    normalise_name,
    normalise_password,
)
from tesra.identity.passwords import Passwords
from tesra.kit.ids import UserId, new_id

SESSION_LIFETIME = timedelta(days=90)
LAST_USED_RESOLUTION = timedelta(minutes=1)  # a call should not cost a write
DEAD_TOKENS_KEPT = timedelta(days=30)  # so long a token says that it expired or was revoked
ATTEMPTS_KEPT = timedelta(days=1)
SIGN_IN_AGAIN = "Sign in again with 'tesra login'."

OnRegistered = Callable[[Tx, UserId], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class LoginLimits:
    """Failed attempts admitted within the window.

    An address may be a whole campus behind one router, so that it gets more; a name that is
    attacked from outside is closed for one window at most after the last guess.
    """

    per_name: int = 10
    per_address: int = 30
    window: timedelta = timedelta(minutes=5)


class IdentityService:
    """Registration, login, tokens and users."""

    def __init__(
        self,
        *,
        on_registered: OnRegistered,
        passwords: Passwords | None = None,
        limits: LoginLimits | None = None,
    ) -> None:
        self._on_registered = on_registered
        self._passwords = passwords or Passwords()
        self._limits = limits or LoginLimits()

    async def prepare_password(self, text: str) -> str:
        """The hash to register with, made outside of any transaction; refuses a short password."""
        return await self._passwords.hash(new_password(text))

    async def register(
        self, tx: Tx, name: str, *, password_hash: str, role: Role = Role.USER
    ) -> tuple[User, IssuedToken]:
        """A new user, signed in; raises ``NameInvalid`` or ``NameTaken``."""
        user = await self._add_user(tx, new_name(name), role=role, password_hash=password_hash)
        if user is None:
            raise NameTaken(way_out="Choose another name, or sign in with 'tesra login'.")
        return user, await self._issue_session(tx, user)

    async def bootstrap_operator(self, tx: Tx, name: str = "operator") -> tuple[User, str]:
        """The first operator, made if missing, and a fresh token; has no password.

        Raises ``NameTaken`` when somebody who is no operator has the name.
        """
        name = normalise_name(name)
        await self._add_user(tx, name, role=Role.OPERATOR, password_hash=None)
        user = await self.user_by_name(tx, name)
        if user.role is not Role.OPERATOR:
            raise NameTaken(f"'{name}' is a {user.role}, not an operator.")
        issued = await self._issue_session(tx, user)
        return user, issued.text

    async def admit_login(self, tx: Tx, name: str, *, address: str) -> LoginAttempt:
        """Counts an attempt; commit before checking the password. Raises ``TooManyLogins``."""
        key, origin = name_key(name), _origin(address)
        await repository.lock_logins(tx, key, origin)
        for column, value, limit in (
            ("name_key", key, self._limits.per_name),
            ("address", origin, self._limits.per_address),
        ):
            wait_s = await repository.seconds_until_admitted(
                tx, column, value=value, limit=limit, window=self._limits.window
            )
            if wait_s is not None:
                seconds = max(1, math.ceil(wait_s))
                raise TooManyLogins(
                    way_out=f"Try again in {seconds} seconds.", retry_after_s=seconds
                )
        await repository.add_attempt(tx, key, origin)
        found = await repository.user_with_password(tx, key)
        user, password_hash = found or (None, None)
        return LoginAttempt(key, user, password_hash)

    async def check_password(self, attempt: LoginAttempt, password: str) -> str | None:
        """None, or a better hash to store; raises ``WrongCredentials``, always after as long."""
        password = normalise_password(password)
        fits = await self._passwords.verify(attempt.password_hash, password)
        if not fits or attempt.password_hash is None:
            raise WrongCredentials(way_out="Check both; 'tesra register' makes a new account.")
        if self._passwords.outdated(attempt.password_hash):
            return await self._passwords.hash(password)
        return None

    async def finish_login(
        self, tx: Tx, attempt: LoginAttempt, *, new_hash: str | None
    ) -> tuple[User, IssuedToken]:
        """A session for an attempt whose password was right; the failures before are forgotten."""
        assert attempt.user is not None
        await repository.clear_attempts(tx, attempt.name_key)
        if new_hash is not None:
            await repository.set_password_hash(tx, attempt.user.id, new_hash)
        return attempt.user, await self._issue_session(tx, attempt.user)

    async def authenticate(self, tx: Tx, token: str) -> Principal:
        """Who the token belongs to; raises ``TokenUnknown``, ``TokenRevoked``, ``TokenExpired``."""
        key = tokens.parse(token)
        if key is None:
            raise TokenUnknown("This is not a Tesra token.", way_out=SIGN_IN_AGAIN)
        state = await repository.token_state(tx, key.id, use_is_stale_after=LAST_USED_RESOLUTION)
        # Whether a token exists, expired or was revoked is told only to who knows its secret.
        if state is None or not hmac.compare_digest(state.secret_hash, key.secret_hash):
            raise TokenUnknown(way_out=SIGN_IN_AGAIN)
        if state.revoked:
            raise TokenRevoked(way_out=SIGN_IN_AGAIN)
        if state.expired:
            raise TokenExpired(way_out=SIGN_IN_AGAIN)
        if state.use_is_stale:
            await repository.touch_token(tx, key.id)
        owner = state.owner
        scopes = permissions.effective_scopes(owner.role, state.scopes)
        return Principal(owner.id, owner.name, owner.role, scopes, key.id)

    async def create_token(
        self, tx: Tx, maker: Principal, *, name: str, scopes: Iterable[str], days: int | None
    ) -> IssuedToken:
        """A token for ``maker``, of no more scope than the one in use; raises ``ScopeMissing``."""
        granted = permissions.grantable(maker, scopes)
        lifetime = None if days is None else timedelta(days=days)
        return await self._issue(tx, maker.user_id, name=name, scopes=granted, lifetime=lifetime)

    async def tokens(
        self, tx: Tx, owner: UserId, *, after: str | None = None, limit: int = 50
    ) -> list[Token]:
        """Those that still work, newest first."""
        return await repository.list_tokens(tx, owner, after=after, limit=limit)

    async def revoke(self, tx: Tx, owner: UserId, *, token_id: str) -> None:
        """The token stops working at once; raises ``TokenNotFound`` when it is not the owner's."""
        if not await repository.revoke_token(tx, owner, token_id):
            raise TokenNotFound

    async def user(self, tx: Tx, user_id: UserId) -> User:
        """Raises ``UserUnknown``."""
        found = await repository.user(tx, user_id)
        if found is None:
            raise UserUnknown
        return found

    async def user_by_name(self, tx: Tx, name: str) -> User:
        """By any spelling of the name that counts as the same; raises ``UserUnknown``."""
        found = await repository.user_with_password(tx, name_key(name))
        if found is None:
            raise UserUnknown(f"There is no user called '{name}'.")
        return found[0]

    async def users(self, tx: Tx, *, after: str | None = None, limit: int = 50) -> list[User]:
        """Everybody, in order of registration."""
        return await repository.list_users(tx, after=after, limit=limit)

    async def operators(self, tx: Tx) -> list[UserId]:
        """Who looks after the network."""
        return await repository.operators(tx)

    async def purge_expired(self, tx: Tx) -> int:
        """Forgets long dead tokens and old login attempts; returns how many rows."""
        return await repository.purge(tx, dead_tokens=DEAD_TOKENS_KEPT, attempts=ATTEMPTS_KEPT)

    async def _add_user(
        self, tx: Tx, name: str, *, role: Role, password_hash: str | None
    ) -> User | None:
        user = await repository.add_user(
            tx,
            UserId(new_id("usr")),
            name=name,
            name_key=name_key(name),
            role=role,
            password_hash=password_hash,
        )
        if user is not None:
            await self._on_registered(tx, user.id)
        return user

    async def _issue_session(self, tx: Tx, user: User) -> IssuedToken:
        scopes = permissions.scopes_of(user.role)
        return await self._issue(
            tx, user.id, name="session", scopes=scopes, lifetime=SESSION_LIFETIME
        )

    async def _issue(
        self,
        tx: Tx,
        owner: UserId,
        *,
        name: str,
        scopes: frozenset[str],
        lifetime: timedelta | None,
    ) -> IssuedToken:
        key, text = tokens.mint()
        token = await repository.add_token(
            tx, owner, key=key, name=name, scopes=scopes, lifetime=lifetime
        )
        return IssuedToken(token, text)


def _origin(address: str) -> str:
    """What counts as one address: an IPv6 subscriber has a whole /64."""
    try:
        parsed = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
