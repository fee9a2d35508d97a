"""Accounts, sign-in, second factors, sessions and tokens."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from tesra.wire.common import Answer, Wire

Role = Literal["user", "provider", "operator"]
Scope = Literal["read", "write", "operate"]
TokenKind = Literal["session", "token"]
Locale = Literal["zh-CN", "en"]
Theme = Literal["light", "dark", "auto"]
UserName = Annotated[str, Field(min_length=1, max_length=64)]
Password = Annotated[str, Field(min_length=1, max_length=1024)]
Code = Annotated[
    str,
    Field(max_length=64, description="Six digits of an authenticator app, or a recovery code."),
]


class Credentials(Wire):
    """What register takes."""

    name: UserName
    password: Password


class LoginRequest(Credentials):
    """What login takes; ``code`` when a second factor is on."""

    code: Code | None = None


class User(Answer):
    id: str
    name: str
    role: Role
    created_at: datetime


class Session(Answer):
    """The token is shown once; only its hash is kept."""

    token: str
    expires_at: datetime | None
    user: User


class TokenRequest(Wire):
    name: str = Field(default="token", min_length=1, max_length=64)
    scopes: list[Scope] = ["read", "write"]
    expires_in_days: int | None = Field(default=90, ge=0, le=3650)


class Token(Answer):
    """``kind``: made by signing in, or for a program; ``current``: this call is made with it."""

    id: str
    name: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    kind: TokenKind = "token"
    current: bool = False


class NewToken(Token):
    token: str


class ActiveSession(Answer):
    """Where somebody is signed in; ``current``: this call is made with it."""

    id: str
    begun_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    user_agent: str | None
    address: str | None
    current: bool


class Revoked(Answer):
    """How many sessions ended."""

    revoked: int


class Proof(Wire):
    """The password again, and a code when a second factor is on."""

    password: Password
    code: Code | None = None


class SecondFactor(Answer):
    """``begun``: a secret waits for its first code."""

    on: bool
    begun: bool
    since: datetime | None
    recovery_codes_left: int


class Enrolment(Answer):
    """For the authenticator app; ``uri`` is what its QR code says."""

    secret: str
    uri: str


class Confirmation(Wire):
    code: Code


class RecoveryCodes(Answer):
    """Shown this once; each works once in place of an app's code."""

    recovery_codes: list[str]


class PasswordChange(Wire):
    """``code`` when a second factor is on."""

    old_password: Password
    new_password: Password
    code: Code | None = None


class Preferences(Answer):
    """How pages are shown; without a locale as the browser says."""

    locale: Locale | None
    theme: Theme


class PreferencesChange(Wire):
    """What is left out stays."""

    locale: Locale | None = None
    theme: Theme = "auto"


class FactorOffRequest(Wire):
    """``note``: why, and how the person was recognised; it stays in the account's log."""

    note: str = Field(min_length=1, max_length=500)


class AccountEvent(Answer):
    """``actor``: who did it; ``note``: an operator's reason."""

    id: str
    kind: str
    actor: str
    note: str | None
    at: datetime
