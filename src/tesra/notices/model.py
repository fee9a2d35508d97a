"""Notices: what is told to whom, and where it may be sent. Pure.

A notice is one event for one channel. Its id is the same at every try, so that a receiver can
tell a repetition; its words are made when it is sent, in the channel's language.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from tesra.kit.addresses import is_public
from tesra.kit.errors import Conflict, Invalid, NotFound, TooMany


class Event(StrEnum):
    """What a user may want to be told of; ``TEST`` is told to who asks."""

    ENDED = "ended"
    FAILED = "failed"
    CAP = "cap"
    NEAR_CAP = "near-cap"
    AGAIN = "again"
    BILL = "bill"
    SWEEP = "sweep"
    ALARM = "alarm"
    TEST = "test"


CHOOSABLE = tuple(event.value for event in Event if event is not Event.TEST)
CODE_DIGITS = 6
CODE_TRIES = 5
CODE_MINUTES = 30
MOST_CHANNELS = 10  # of one user, with those removed in the last day
SECRET_PREFIX = "whsec_"  # noqa: S105 - what a secret begins with, as Standard Webhooks has it
SECRET_BYTES = 32


class ChannelUnknown(NotFound):
    """There is no such channel of yours."""


class AddressInvalid(Invalid):
    """Notices can't be sent to this address."""


class CodeWrong(Invalid):
    """This code is wrong, or too old."""


class TooManyChannels(TooMany):
    """You have made too many channels today."""


class MailOff(Conflict):
    """This network sends no e-mail."""


class Unconfirmed(Conflict):
    """This address is not confirmed yet."""


@dataclass(frozen=True, slots=True)
class Happening:
    """An event, as jobs and webhooks carry it; ``bill`` is there while it is unpaid."""

    event: Event
    at: str = ""  # when it is told, as ISO 8601 has it
    run: str | None = None
    sweep: str | None = None
    project: str | None = None
    reason: str | None = None
    amount_cny: str | None = None
    bill: str | None = None

    @classmethod
    def of(cls, data: dict[str, Any]) -> "Happening":
        """From what ``plain`` gave, also if a newer or older server did."""
        known = {one.name: data[one.name] for one in fields(cls) if one.name in data}
        return cls(**known | {"event": Event(data["event"])})

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def heard(kind: str, wanted: frozenset[str], happenings: list[Happening]) -> list[Happening]:
    """Those of one moment that a channel is told of.

    A mail on a run's end says its bill too: no second one.
    """
    told = [one for one in happenings if one.event in wanted]
    return told[:1] if kind == "email" else told


# addresses

_MAILBOX = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]+\]")


def check_mailbox(address: str) -> str:
    """The address, if a mail can go to it: ASCII, no quotes, no line breaks."""
    local, _, _ = address.partition("@")
    if len(address) > 254 or len(local) > 64 or not _MAILBOX.fullmatch(address):
        raise AddressInvalid(
            "This is not an e-mail address that can be used.",
            way_out="Write it like me@example.org; a domain that is not ASCII in its xn-- form.",
        )
    return address


_A_HOOK = "Give an address like https://example.org/hook, reachable from the server."


def check_hook_url(url: str, *, private: bool) -> str:
    """The URL, if it may be called as far as it tells by itself; its host is looked up later."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise AddressInvalid("This is not a URL.", way_out=_A_HOOK) from error
    plain = url.isascii() and url.isprintable() and " " not in url
    name = f"[{host}]" if ":" in host else host
    if not plain or parts.scheme not in ("http", "https") or not _HOST.fullmatch(name):
        raise AddressInvalid("A webhook needs an http or https URL.", way_out=_A_HOOK)
    if parts.username is not None or parts.password is not None or parts.fragment or port == 0:
        raise AddressInvalid(
            "A webhook's URL has no user, no password and no fragment.",
            way_out="The signature tells your receiver who calls; a token may stand in the query.",
        )
    if not private and (host == "localhost" or host.endswith(".localhost") or _is_inside(host)):
        raise private_address(host)
    return url


def private_address(host: str) -> AddressInvalid:
    """The refusal of an address on the server's own side."""
    return AddressInvalid(
        f"{host} is an address inside the server's own network.",
        way_out="Give a public one; the operator can allow private ones: TESRA_WEBHOOK_PRIVATE=1.",
    )


def _is_inside(host: str) -> bool:
    try:
        return not is_public(host)
    except ValueError:  # a name
        return False


# webhooks


def show_secret(key: bytes) -> str:
    """A webhook's secret as its owner gets it."""
    return SECRET_PREFIX + base64.b64encode(key).decode()


def signature(key: bytes, notice: str, timestamp: int, content: bytes) -> str:
    """As Standard Webhooks has it: over id, time and body."""
    signed = f"{notice}.{timestamp}.".encode() + content
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
