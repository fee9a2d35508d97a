"""The second factor decided purely: codes of an authenticator app (RFC 6238) and of paper.

A code of the app is accepted once: it belongs to a step of 30 seconds, and only steps after the
last accepted one count. The clocks may be one step apart, either way.
"""

import hashlib
import hmac
import secrets
import unicodedata
from dataclasses import dataclass
from datetime import datetime

import pyotp

from tesra.kit.errors import Conflict, Unauthenticated
from tesra.kit.ids import UserId

ISSUER = "Tesra"
STEP_S = 30
DRIFT_STEPS = 1
DIGITS = 6
RECOVERY_CODES = 10
_RECOVERY_CHARACTERS = 16  # of 5 bits each: too many to try, so that a fast hash is enough
_GROUP = 4
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: nothing is mistaken for another
_READ_AS = str.maketrans({"o": "0", "i": "1", "l": "1", "-": None, " ": None})


class SecondFactorNeeded(Unauthenticated):
    """This account has a second factor: give its code too."""


class SecondFactorWrong(Unauthenticated):
    """This code is wrong, or was used already."""


class SecondFactorOn(Conflict):
    """The second factor is on already."""


class SecondFactorOff(Conflict):
    """The second factor is off."""


class EnrolmentMissing(Conflict):
    """There is nothing to confirm: begin first."""


@dataclass(frozen=True, slots=True)
class FactorState:
    """``begun``: a secret was made and waits for its first code."""

    on: bool
    begun: bool
    since: datetime | None
    recovery_codes_left: int


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What goes into an authenticator app: the secret in base32, and the same as a URI."""

    secret: str
    uri: str


def new_secret() -> str:
    """160 random bits in base32, as RFC 4226 recommends."""
    return pyotp.random_base32(32)


def enrolment(secret: str, user_name: str) -> Enrolment:
    uri = pyotp.TOTP(secret).provisioning_uri(name=user_name, issuer_name=ISSUER)
    return Enrolment(secret, uri)


def step_at(now: datetime) -> int:
    """The number of the step that a moment lies in."""
    return int(now.timestamp()) // STEP_S


def accepted_step(secret: str, code: str, *, now: datetime, last_step: int | None) -> int | None:
    """The step that the code belongs to, None when it is wrong, too old or used already."""
    code = normalise_code(code)
    current, accepted = step_at(now), None
    for step in range(current - DRIFT_STEPS, current + DRIFT_STEPS + 1):
        fits = hmac.compare_digest(code_of(secret, step).encode(), code.encode())
        if fits and (last_step is None or step > last_step):
            accepted = step
    return accepted


def code_of(secret: str, step: int) -> str:
    """What an authenticator app shows in this step."""
    return pyotp.HOTP(secret, digits=DIGITS).at(step)


def is_app_code(code: str) -> bool:
    """Whether it has the form of an app's code; else it is taken for a recovery code."""
    code = normalise_code(code)
    return len(code) == DIGITS and code.isascii() and code.isdigit()


def normalise_code(text: str) -> str:
    """As a code is meant, however it was typed: full width, capitals, spaces, hyphens, o for 0."""
    return unicodedata.normalize("NFKC", text).casefold().translate(_READ_AS)


def new_recovery_codes() -> list[str]:
    """Ten codes for when the app is lost, to be shown once."""
    return [_new_recovery_code() for _ in range(RECOVERY_CODES)]


def recovery_hash(user_id: UserId, code: str) -> bytes:
    """What is kept of a recovery code."""
    return hashlib.sha256(f"{user_id}:{normalise_code(code)}".encode("utf-8", "replace")).digest()


def _new_recovery_code() -> str:
    drawn = "".join(secrets.choice(_ALPHABET) for _ in range(_RECOVERY_CHARACTERS))
    return "-".join(drawn[at : at + _GROUP] for at in range(0, len(drawn), _GROUP))
