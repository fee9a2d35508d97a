"""Notices: where a user is told of what happens to runs, and of what."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from tesra.wire.common import Answer, Wire

NoticeKind = Literal["email", "webhook"]
NoticeEvent = Literal["ended", "failed", "cap", "near-cap", "again", "bill", "sweep", "alarm"]
Language = Literal["zh", "en"]
ALL_EVENTS: tuple[NoticeEvent, ...] = (
    "ended",
    "failed",
    "cap",
    "near-cap",
    "again",
    "bill",
    "sweep",
    "alarm",
)


class ChannelRequest(Wire):
    """A mailbox or a URL; one that is there already gets this language and these events."""

    kind: NoticeKind
    address: Annotated[str, Field(min_length=3, max_length=2000)]
    language: Language = "en"
    events: Annotated[list[NoticeEvent], Field(min_length=1, max_length=16)] = list(ALL_EVENTS)


class ConfirmRequest(Wire):
    """The code that came by mail."""

    code: Annotated[str, Field(min_length=1, max_length=16)]


class Channel(Answer):
    """``problem`` is why the last try to reach it failed; a new webhook shows its ``secret`` once."""

    id: str
    kind: NoticeKind
    address: str
    language: Language
    events: list[NoticeEvent]
    confirmed: bool
    created_at: datetime
    told_at: datetime | None = None
    problem: str | None = None
    secret: str | None = None


class Notice(Answer):
    """Something that happened; ``bill`` is there when it was unpaid then."""

    id: str
    event: NoticeEvent
    at: datetime
    run: str | None = None
    sweep: str | None = None
    project: str | None = None
    reason: str | None = None
    amount_cny: str | None = None
    bill: str | None = None
    read_at: datetime | None = None


class Unread(Answer):
    """How many notices were not seen; 100 stands for that many or more."""

    unread: int


class ReadRequest(Wire):
    """``until``: the newest notice that was seen; all without it."""

    until: Annotated[str | None, Field(max_length=64)] = None
