"""People, their tokens, and who is calling: pure values and the rules of names and passwords.

Two names are the same when their keys are: NFKC, case folded, NFKC again.
"""

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tesra.kit.errors import Conflict, Forbidden, Invalid, NotFound, TooMany, Unauthenticated
from tesra.kit.ids import TokenId, UserId

NAME_MAX_CHARACTERS = 64
PASSWORD_MIN_CHARACTERS = 8
RESERVED_KEYS = frozenset({"operator", "tesra", ".", ".."})  # ours, or a step in a path


class Role(StrEnum):
    """What a person may be; an operator may do all that the others may."""

    USER = "user"
    PROVIDER = "provider"
    OPERATOR = "operator"


class TokenKind(StrEnum):
    """How a token came to be: by signing in, or made to be given to a program."""

    SESSION = "session"
    TOKEN = "token"  # noqa: S105 - a word, not a secret


class Theme(StrEnum):
    LIGHT = "light"
    DARK = "dark"
    AUTO = "auto"


class Locale(StrEnum):
    CHINESE = "zh-CN"
    ENGLISH = "en"


class Step(StrEnum):
    """First steps that leave no trace by themselves, so that they are noted."""

    METRICS = "metrics"
    DOWNLOAD = "download"


@dataclass(frozen=True, slots=True)
class Preferences:
    """How a person wants pages; without a locale, as the browser says."""

    locale: Locale | None = None
    theme: Theme = Theme.AUTO


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, and what the token used for this call admits."""

    user_id: UserId
    name: str
    role: Role
    scopes: frozenset[str]
    token_id: TokenId
    kind: TokenKind = TokenKind.TOKEN


@dataclass(frozen=True, slots=True)
class User:
    id: UserId
    name: str
    role: Role
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Token:
    """What may be shown of a token; its secret is not kept.

    Where it was begun (``user_agent``, ``address``) is known of sessions alone.
    """

    id: TokenId
    name: str
    scopes: frozenset[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    kind: TokenKind
    user_agent: str | None
    address: str | None


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A fresh token with its text, which is shown this once."""

    token: Token
    text: str


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """An admitted attempt: already counted as a failure until ``finish_login`` takes it back.

    ``user`` and ``password_hash`` are None when there is no such person (or no password).
    """

    name_key: str
    user: User | None
    password_hash: str | None


class NameInvalid(Invalid):
    """A name has 1 to 64 visible characters, without spaces and without '/'."""


class PasswordTooShort(Invalid):
    """A password has at least 8 characters."""


class NameTaken(Conflict):
    """This name is taken."""


class UserUnknown(NotFound):
    """There is no such user."""


class TokenNotFound(NotFound):
    """You have no such token."""


class SessionNotFound(NotFound):
    """You have no such session."""


class WrongCredentials(Unauthenticated):
    """The name or the password is wrong."""


class PasswordWrong(Unauthenticated):
    """The password is wrong."""


class PasswordMissing(Conflict):
    """This account has no password."""


class TokenMissing(Unauthenticated):
    """Sign in first: this needs a token."""


class TokenUnknown(Unauthenticated):
    """This token is not known here."""


class TokenExpired(Unauthenticated):
    """This token has expired."""


class TokenRevoked(Unauthenticated):
    """This token has been revoked."""


class ScopeMissing(Forbidden):
    """This token does not admit that."""


class OperatorOnly(Forbidden):
    """Only an operator may do this."""


class TooManyLogins(TooMany):
    """Too many failed logins: wait a little and try again."""


class TooManyRegistrations(TooMany):
    """Too many accounts were made from your address lately."""


def normalise_name(text: str) -> str:
    """The name as it is shown (NFKC); raises ``NameInvalid``."""
    name = unicodedata.normalize("NFKC", text)
    if not 1 <= len(name) <= NAME_MAX_CHARACTERS:
        raise NameInvalid
    if "/" in name or not all(_visible(character) for character in name):
        raise NameInvalid
    if unicodedata.category(name[0]).startswith("M"):
        raise NameInvalid("A name can't begin with a combining mark.")
    return name


def name_key(text: str) -> str:
    """What makes a name unique; never raises, so that any text may be looked up."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", folded)


def new_name(text: str) -> str:
    """A name that a person may register: valid and not reserved."""
    name = normalise_name(text)
    if name_key(name) in RESERVED_KEYS:
        raise NameTaken("This name is reserved.", way_out="Choose another name.")
    return name


def normalise_password(text: str) -> str:
    """The same password from any keyboard (NFKC)."""
    return unicodedata.normalize("NFKC", text)


def new_password(text: str) -> str:
    """A password that a person may choose; raises ``PasswordTooShort``."""
    password = normalise_password(text)
    if len(password) < PASSWORD_MIN_CHARACTERS:
        raise PasswordTooShort
    return password


def _visible(character: str) -> bool:
    # C*: control, format (zero width), surrogate, private, unassigned; Z*: spaces and separators.
    return unicodedata.category(character)[0] not in "CZ"
