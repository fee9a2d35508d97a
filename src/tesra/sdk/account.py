"""The verbs of your own account: signing in, second factor, sessions, password."""

from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from tesra.sdk.connection import Connection
from tesra.sdk.mistakes import RequestInvalid, mistake
from tesra.wire.identity import (
    AccountEvent,
    ActiveSession,
    Confirmation,
    Credentials,
    Enrolment,
    FactorOffRequest,
    LoginRequest,
    PasswordChange,
    Preferences,
    PreferencesChange,
    Proof,
    RecoveryCodes,
    Revoked,
    SecondFactor,
    Session,
    User,
)

Model = TypeVar("Model", bound=BaseModel)
_FACTOR = "/me/second-factor"


class AccountVerbs:
    """What ``Client`` can do with its own account."""

    connection: Connection

    def register(self, name: str, password: str) -> Session:
        """Make an account and go on as it."""
        return self._sign_in("/register", Credentials, name=name, password=password)

    def login(self, name: str, password: str, code: str | None = None) -> Session:
        """Go on as the owner of an account.

        Without a code, an account with a second factor raises ``Unauthenticated`` with the code
        ``second_factor_needed``.
        """
        if code is None:  # as a server that knows no second factors understands it
            return self._sign_in("/login", Credentials, name=name, password=password)
        return self._sign_in("/login", LoginRequest, name=name, password=password, code=code)

    def logout(self) -> None:
        """Revoke the token in use."""
        self.connection.send("POST", "/logout")
        self.connection.sign(None)

    def whoami(self) -> User:
        return self.connection.get("/me", User)

    def second_factor(self) -> SecondFactor:
        """Whether one is on, and how many recovery codes are left."""
        return self.connection.get(_FACTOR, SecondFactor)

    def begin_second_factor(self, password: str) -> Enrolment:
        """A fresh secret for an authenticator app; ``confirm_second_factor`` turns it on."""
        return self.connection.post(f"{_FACTOR}/begin", Enrolment, _valid(Proof, password=password))

    def confirm_second_factor(self, code: str) -> list[str]:
        """Turn it on with a first code; the recovery codes, shown this once."""
        body = _valid(Confirmation, code=code)
        return self.connection.post(f"{_FACTOR}/confirm", RecoveryCodes, body).recovery_codes

    def second_factor_off(self, password: str, code: str) -> None:
        """Sign in with the password alone from now on."""
        self.connection.send("POST", f"{_FACTOR}/off", _valid(Proof, password=password, code=code))

    def renew_recovery_codes(self, password: str, code: str) -> list[str]:
        """New recovery codes; all before stop working."""
        body = _valid(Proof, password=password, code=code)
        path = f"{_FACTOR}/recovery-codes"
        return self.connection.post(path, RecoveryCodes, body).recovery_codes

    def sessions(self) -> list[ActiveSession]:
        """Where you are signed in, newest first."""
        return list(self.connection.pages("/me/sessions", ActiveSession))

    def revoke_session(self, session: str) -> None:
        """End one of them at once."""
        self.connection.send("DELETE", f"/me/sessions/{quote(session, safe='')}")

    def revoke_other_sessions(self) -> int:
        """End all but the one in use; how many."""
        return self.connection.post("/me/sessions/revoke-others", Revoked).revoked

    def change_password(self, old: str, new: str, code: str | None = None) -> int:
        """Change the password; how many other sessions that ended."""
        body = _valid(PasswordChange, old_password=old, new_password=new, code=code)
        return self.connection.post("/me/password", Revoked, body).revoked

    def preferences(self) -> Preferences:
        """How pages are shown to you."""
        return self.connection.get("/me/preferences", Preferences)

    def change_preferences(self, **changes: str | None) -> Preferences:
        """``locale`` (zh-CN, en, None: as the browser says), ``theme`` (light, dark, auto)."""
        return self.connection.patch(
            "/me/preferences", Preferences, _valid(PreferencesChange, **changes)
        )

    def account_events(self) -> list[AccountEvent]:
        """What happened to your password and second factor, newest first."""
        return list(self.connection.pages("/me/events", AccountEvent))

    def second_factor_off_for(self, user: str, note: str) -> None:
        """Turn off the second factor of a user who lost the device (operator)."""
        path = f"/operator/users/{quote(user, safe='')}/second-factor/off"
        self.connection.send("POST", path, _valid(FactorOffRequest, note=note))

    def account_events_of(self, user: str) -> list[AccountEvent]:
        """What happened to a user's password and second factor (operator)."""
        path = f"/operator/users/{quote(user, safe='')}/events"
        return list(self.connection.pages(path, AccountEvent))

    def _sign_in(self, path: str, body: type[Credentials], **said: str) -> Session:
        try:
            request = body(**said)
        except ValidationError as error:
            raise RequestInvalid(
                "A name has 1 to 64 characters and a password 1 to 1024."
            ) from error
        session = self.connection.post(path, Session, request)
        self.connection.sign(session.token)
        return session


def _valid(model: type[Model], **fields: Any) -> Model:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise RequestInvalid(mistake(error)) from error
