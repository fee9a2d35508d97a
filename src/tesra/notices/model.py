"""Notices: what is told to whom, in which words. Pure.

A notice is one event for one channel. Its id is the same at every try, so that a receiver can
tell a repetition; its words are made when it is sent, in the channel's language.
"""

import base64
import hashlib
import hmac
import ipaddress
import json
import re
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

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
    TEST = "test"


CHOOSABLE = tuple(event.value for event in Event if event is not Event.TEST)
_TYPES = {  # as a webhook names them
    Event.ENDED: "run.ended",
    Event.FAILED: "run.failed",
    Event.CAP: "run.stopped",
    Event.NEAR_CAP: "run.near_cap",
    Event.AGAIN: "run.queued_again",
    Event.BILL: "bill.made",
    Event.SWEEP: "sweep.ended",
    Event.TEST: "test",
}
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


def subject(said: Happening, language: str) -> str:
    """One line, whatever is in the names."""
    words = _SUBJECTS[language][said.event].format(what=_what(said, language))
    return " ".join(f"Tesra: {words}".split())[:200]


def text(said: Happening, language: str) -> str:
    """The whole notice: what happened, why, what it costs, what to do next."""
    first = _SUBJECTS[language][said.event].format(what=_what(said, language))
    lines = [first[:1].upper() + first[1:] + _STOP[language]]
    phrases = _PHRASES[language]
    if said.reason:
        lines.append(phrases["why"].format(why=said.reason))
    if said.bill:
        lines.append(phrases["bill"].format(bill=said.bill, amount=said.amount_cny))
        lines.append(phrases["due"])
    elif said.amount_cny is not None:
        lines.append(phrases["cost"].format(amount=said.amount_cny))
    lines += [f"    {command}" for command in _commands(said)]
    return "\n".join([*lines, "", phrases["why_me"], ""])


def code_words(code: str, language: str) -> tuple[str, str]:
    """Subject and text of the mail that confirms an address."""
    mail = _CODE[language]
    return mail[0].format(code=code), mail[1].format(code=code, minutes=CODE_MINUTES)


def _what(said: Happening, language: str) -> str:
    if said.event is Event.BILL:
        return f"{said.bill or ''}"
    noun = _PHRASES[language]["sweep" if said.sweep and not said.run else "run"]
    name = said.run or said.sweep or ""
    return f"{noun}{name} ({said.project})" if said.project else f"{noun}{name}"


def _commands(said: Happening) -> list[str]:
    if said.event is Event.SWEEP:
        commands = [f"tesra sweep show {said.sweep}"]
    else:
        commands = [f"tesra show {said.run}"] if said.run else []
    if said.event is Event.ENDED:
        commands.append(f"tesra download {said.run} model")
    if said.event is Event.FAILED:
        commands.append(f"tesra logs {said.run}")
    return [*commands, f"tesra pay {said.bill}"] if said.bill else commands


_STOP = {"en": ".", "zh": "。"}
_SUBJECTS = {
    "en": {
        Event.ENDED: "{what} has ended well",
        Event.FAILED: "{what} has failed",
        Event.CAP: "{what} was stopped at its cap",
        Event.NEAR_CAP: "{what} comes near its cap",
        Event.AGAIN: "{what} lost its node and is queued again",
        Event.BILL: "bill {what} is made",
        Event.SWEEP: "{what} has ended",
        Event.TEST: "notices reach you here",
    },
    "zh": {
        Event.ENDED: "{what} 已顺利完成",
        Event.FAILED: "{what} 失败了",
        Event.CAP: "{what} 已达上限，被停止",
        Event.NEAR_CAP: "{what} 接近上限",
        Event.AGAIN: "{what} 失去了节点，已重新排队",
        Event.BILL: "账单 {what} 已生成",
        Event.SWEEP: "{what} 已结束",
        Event.TEST: "您可以在这里收到通知",
    },
}
_PHRASES = {
    "en": {
        "run": "run ",
        "sweep": "sweep ",
        "why": "{why}",
        "bill": "Bill {bill}: CNY {amount}, unpaid.",
        "due": "Until it is paid, no further run starts.",
        "cost": "Cost: CNY {amount}.",
        "why_me": "You asked for this with `tesra notify`; `tesra notify remove` ends it.",
    },
    "zh": {
        "run": "训练 ",
        "sweep": "超参搜索 ",
        "why": "原因：{why}",
        "bill": "账单 {bill}：{amount} 元，未支付。",
        "due": "支付之前，新的训练不会开始。",
        "cost": "费用：{amount} 元。",
        "why_me": "您用 `tesra notify` 订阅了这些通知；`tesra notify remove` 可以取消。",
    },
}
_CODE = {
    "en": (
        "Tesra: your code is {code}",
        "Your code is {code}. It is good for {minutes} minutes:\n\n"
        "    tesra notify confirm {code}\n\n"
        "If you did not ask for it, do nothing: you will hear no more of this.\n",
    ),
    "zh": (
        "Tesra：您的验证码是 {code}",
        "您的验证码是 {code}，{minutes} 分钟内有效：\n\n"
        "    tesra notify confirm {code}\n\n"
        "如果您没有请求它，请忽略这封邮件。\n",
    ),
}

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


def check_hook_url(url: str, *, private: bool) -> str:
    """The URL, if it may be called as far as it tells by itself; its host is looked up later."""
    way_out = "Give an address like https://example.org/hook, reachable from the server."
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise AddressInvalid("This is not a URL.", way_out=way_out) from error
    plain = url.isascii() and url.isprintable() and " " not in url
    name = f"[{host}]" if ":" in host else host
    if not plain or parts.scheme not in ("http", "https") or not _HOST.fullmatch(name):
        raise AddressInvalid("A webhook needs an http or https URL.", way_out=way_out)
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


def is_public(address: str) -> bool:
    """Whether anybody on the internet could call this IP address; IPv4 inside IPv6 counts as such."""
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(
        address.partition("%")[0]
    )
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is not None:
            return ip.teredo is None and is_public(str(inner))
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def _is_inside(host: str) -> bool:
    try:
        return not is_public(host)
    except ValueError:  # a name
        return False


# webhooks


def body(said: Happening, language: str) -> bytes:
    """The JSON that a webhook gets; ``text`` is for people."""
    data = {name: value for name, value in said.plain().items() if name not in ("event", "at")}
    told = {"subject": subject(said, language), "text": text(said, language)}
    message = {"type": _TYPES[said.event], "timestamp": said.at, "data": data | told}
    return json.dumps(message, ensure_ascii=False).encode()


def show_secret(key: bytes) -> str:
    """A webhook's secret as its owner gets it."""
    return SECRET_PREFIX + base64.b64encode(key).decode()


def signature(key: bytes, notice: str, timestamp: int, content: bytes) -> str:
    """As Standard Webhooks has it: over id, time and body."""
    signed = f"{notice}.{timestamp}.".encode() + content
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
