"""Identity: who people are, how they sign in, and what their tokens admit.

A login is three steps, so that no password is hashed while a transaction is open and no
concurrent guess goes uncounted: ``admit_login`` counts the attempt as failed (commit),
``check_password`` hashes, ``finish_login`` takes the count back and gives the token.
"""

import hmac
import math
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta

from tesra.db.engine import Tx
from tesra.identity import admissions, permissions, repository, tokens
from tesra.identity.factors import SecondFactors
from tesra.identity.model import (
    IssuedToken,
    LoginAttempt,
    NameTaken,
    PasswordMissing,
    PasswordWrong,
    Principal,
    Role,
    Token,
    TokenExpired,
    TokenKind,
    TokenNotFound,
    TokenRevoked,
    TokenUnknown,
    TooManyLogins,
    TooManyRegistrations,
    User,
    UserUnknown,
    WrongCredentials,
    name_key,
    new_name,
    new_password,
    normalise_name,
    normalise_password,
)
from tesra.identity.origins import Origin, subscriber_of
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


@dataclass(frozen=True, slots=True)
class RegistrationLimits:
    """Accounts that one address may make within the window: each comes with a voucher."""

    per_address: int = 60
    window: timedelta = timedelta(hours=1)


class IdentityService:
    """Registration, login, tokens and users."""

    def __init__(
        self,
        *,
        on_registered: OnRegistered,
        factors: SecondFactors,
        passwords: Passwords | None = None,
        limits: LoginLimits | None = None,
        registrations: RegistrationLimits | None = None,
    ) -> None:
        self._on_registered = on_registered
        self._factors = factors
        self._passwords = passwords or Passwords()
        self._limits = limits or LoginLimits()
        self._registrations = registrations or RegistrationLimits()

    async def prepare_password(self, text: str) -> str:
        """The hash to register with, made outside of any transaction; refuses a short password."""
        return await self._passwords.hash(new_password(text))

    async def admit_registration(self, tx: Tx, *, address: str) -> None:
        """Raises ``TooManyRegistrations``; asked before a password is hashed, which costs."""
        limits, subscriber = self._registrations, subscriber_of(address)
        wait_s = await admissions.seconds_until_admitted(
            tx,
            admissions.registrations.c.address,
            value=subscriber,
            limit=limits.per_address,
            window=limits.window,
        )
        if wait_s is not None:
            minutes = max(1, math.ceil(wait_s / 60))
            raise TooManyRegistrations(
                way_out=f"Try again in {minutes} minutes, or sign in to an account that you have.",
                retry_after_s=max(1, math.ceil(wait_s)),
            )

    async def register(
        self,
        tx: Tx,
        name: str,
        *,
        password_hash: str,
        role: Role = Role.USER,
        origin: Origin | None = None,
    ) -> tuple[User, IssuedToken]:
        """A new user, signed in; one from elsewhere (``origin``) counts for its address.

        Raises ``NameInvalid``, ``NameTaken`` or ``TooManyRegistrations``.
        """
        if origin is not None:
            subscriber = subscriber_of(origin.address)
            await admissions.lock_registrations(tx, subscriber)
            await self.admit_registration(tx, address=origin.address)
            await admissions.add_registration(tx, subscriber)
        user = await self._add_user(tx, new_name(name), role=role, password_hash=password_hash)
        if user is None:
            raise NameTaken(way_out="Choose another name, or sign in with 'tesra login'.")
        return user, await self._issue_session(tx, user, origin)

    async def bootstrap_operator(self, tx: Tx, name: str = "operator") -> tuple[User, str]:
        """The first operator, made if missing, and a fresh token; has no password.

        Raises ``NameTaken`` when somebody who is no operator has the name.
        """
        name = normalise_name(name)
        await self._add_user(tx, name, role=Role.OPERATOR, password_hash=None)
        user = await self.user_by_name(tx, name)
        if user.role is not Role.OPERATOR:
            raise NameTaken(f"'{name}' is a user, not an operator.")
        issued = await self._issue_session(tx, user, None)
        return user, issued.text

    async def admit_login(self, tx: Tx, name: str, *, address: str) -> LoginAttempt:
        """Counts an attempt; commit before checking the password. Raises ``TooManyLogins``."""
        key, subscriber = name_key(name), subscriber_of(address)
        await admissions.lock_logins(tx, key, subscriber)
        columns = admissions.login_attempts.c
        for column, value, limit in (
            (columns.name_key, key, self._limits.per_name),
            (columns.address, subscriber, self._limits.per_address),
        ):
            wait_s = await admissions.seconds_until_admitted(
                tx, column, value=value, limit=limit, window=self._limits.window
            )
            if wait_s is not None:
                seconds = max(1, math.ceil(wait_s))
                raise TooManyLogins(
                    way_out=f"Try again in {seconds} seconds.", retry_after_s=seconds
                )
        await admissions.add_attempt(tx, key, subscriber)
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
        self,
        tx: Tx,
        attempt: LoginAttempt,
        *,
        new_hash: str | None,
        code: str | None = None,
        origin: Origin | None = None,
    ) -> tuple[User, IssuedToken]:
        """A session for an attempt whose password was right; the failures before are forgotten.

        Raises ``SecondFactorNeeded`` or ``SecondFactorWrong``; the attempt stays counted then.
        """
        user = await self.prove(tx, attempt, code=code)
        if new_hash is not None:
            await repository.set_password_hash(tx, user.id, new_hash)
        return user, await self._issue_session(tx, user, origin)

    async def check_own_password(self, attempt: LoginAttempt, password: str) -> None:
        """The same for who is signed in already; raises ``PasswordWrong``, ``PasswordMissing``."""
        if attempt.password_hash is None:
            raise PasswordMissing("This account has no password; it is used with its token alone.")
        if not await self._passwords.verify(attempt.password_hash, normalise_password(password)):
            raise PasswordWrong

    async def prove(self, tx: Tx, attempt: LoginAttempt, *, code: str | None) -> User:
        """Who it is, after the password was right: its second factor too, if there is one.

        Raises ``SecondFactorNeeded``, ``SecondFactorWrong``, or ``WrongCredentials`` when the
        password was changed meanwhile.
        """
        assert attempt.user is not None
        if await repository.locked_password_hash(tx, attempt.user.id) != attempt.password_hash:
            raise WrongCredentials("The password has just been changed.")
        await self._factors.check(tx, attempt.user.id, code)
        await admissions.clear_attempts(tx, attempt.name_key)
        return attempt.user

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
        return Principal(owner.id, owner.name, owner.role, scopes, key.id, state.kind)

    async def create_token(
        self, tx: Tx, maker: Principal, *, name: str, scopes: Iterable[str], days: int | None
    ) -> IssuedToken:
        """A token for ``maker``, of no more scope than the one in use; raises ``ScopeMissing``."""
        granted = permissions.grantable(maker, scopes)
        lifetime = None if days is None else timedelta(days=days)
        key, text = tokens.mint()
        new = repository.NewToken(key, name, granted, lifetime, TokenKind.TOKEN)
        return IssuedToken(await repository.add_token(tx, maker.user_id, new), text)

    async def tokens(
        self,
        tx: Tx,
        owner: UserId,
        *,
        after: str | None = None,
        limit: int = 50,
        kind: TokenKind | None = None,
    ) -> list[Token]:
        """Those that still work, newest first; sessions too, unless a ``kind`` is wanted."""
        return await repository.list_tokens(tx, owner, after=after, limit=limit, kind=kind)

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

    async def users(
        self, tx: Tx, *, after: str | None = None, limit: int = 50, search: str | None = None
    ) -> list[User]:
        """Everybody, in order of registration; or those whose name has ``search`` in any spelling."""
        part = name_key(search) if search else None
        return await repository.list_users(tx, after=after, limit=limit, key_part=part)

    async def names(self, tx: Tx, user_ids: Collection[UserId]) -> dict[UserId, str]:
        """What these people are called; who does not exist is left out."""
        return await repository.names(tx, user_ids) if user_ids else {}

    async def count(self, tx: Tx) -> int:
        """How many people have an account."""
        return await repository.count_users(tx)

    async def operators(self, tx: Tx) -> list[UserId]:
        """Who looks after the network."""
        return await repository.operators(tx)

    async def purge_expired(self, tx: Tx) -> int:
        """Forgets long dead tokens and old login attempts; returns how many rows."""
        gone = await repository.purge(tx, dead_tokens=DEAD_TOKENS_KEPT)
        return gone + await admissions.purge(tx, older_than=ATTEMPTS_KEPT)

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

    async def _issue_session(self, tx: Tx, user: User, origin: Origin | None) -> IssuedToken:
        key, text = tokens.mint()
        scopes = permissions.scopes_of(user.role)
        new = repository.NewToken(
            key, "session", scopes, SESSION_LIFETIME, TokenKind.SESSION, origin
        )
        return IssuedToken(await repository.add_token(tx, user.id, new), text)
