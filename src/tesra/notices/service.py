"""Where users are told, and that they are: a notice is queued in the transaction of what it tells.

An e-mail address is told nothing before its owner has given back the code that was sent to it.
"""

import hmac
import os
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, func, select

from tesra.crypto.aead import Sealer
from tesra.db.engine import Tx
from tesra.db.notify import notify_all, topic_with
from tesra.kit.ids import UserId, new_id
from tesra.notices.inbox import Inbox
from tesra.notices.model import (
    CODE_DIGITS,
    CODE_MINUTES,
    CODE_TRIES,
    MOST_CHANNELS,
    SECRET_BYTES,
    ChannelUnknown,
    Event,
    Happening,
    MailOff,
    TooManyChannels,
    Unconfirmed,
    check_hook_url,
    check_mailbox,
    heard,
    show_secret,
)
from tesra.notices.repository import ChannelRepository
from tesra.wire.notices import Channel, ChannelRequest

DELIVERY_JOB = "deliver"
CODE_JOB = "mail_code"
_CODE_AGE = timedelta(minutes=CODE_MINUTES)
_CODE_PAUSE = timedelta(minutes=1)

Defer = Callable[[Tx, str, dict[str, Any]], Awaitable[object]]  # queue the job of that name


class NoticeService:
    """A user's channels, what is told to them, and the ``inbox`` of pages."""

    def __init__(self, sealer: Sealer, *, defer: Defer, mails: bool, private_hooks: bool) -> None:
        self._sealer = sealer
        self._defer = defer
        self._mails = mails
        self._private_hooks = private_hooks
        self._repository = ChannelRepository()
        self.inbox = Inbox()

    @property
    def mails(self) -> bool:
        """Whether this network sends e-mail."""
        return self._mails

    async def tell(self, tx: Tx, owner: UserId, happenings: Sequence[Happening]) -> None:
        """Kept for its owner's pages; one job for each happening and channel that wants it."""
        await self.inbox.add(tx, owner, happenings)
        await self._show(tx, owner, happenings)
        rows = await self._repository.heard_by(tx, owner)
        if not rows:
            return
        at = await self._now(tx)
        timed = [replace(one, at=at) for one in happenings]
        for row in rows:
            for said in heard(row.kind, frozenset(row.events), timed):
                await self._queue(tx, row.id, said)

    async def _show(self, tx: Tx, owner: UserId, happenings: Sequence[Happening]) -> None:
        """What the owner's open pages hear of it, whether or not there is a channel."""
        seen = [
            topic_with(
                f"user:{owner}",
                notice=one.event.value,
                **{
                    name: value
                    for name in ("run", "sweep", "bill")
                    if (value := getattr(one, name)) is not None
                },
            )
            for one in happenings
        ]
        await notify_all(tx, seen)

    async def channels(self, tx: Tx, owner: UserId) -> list[Channel]:
        return [_shown(row) for row in await self._repository.of(tx, owner)]

    async def add(self, tx: Tx, owner: UserId, request: ChannelRequest) -> Channel:
        """A new channel, or new wishes of one that is there; an e-mail address gets a code."""
        await self._repository.lock_owner(tx, owner)
        address = self._checked(request)
        known = [
            row
            for row in await self._repository.of(tx, owner)
            if (row.kind, row.address) == (request.kind, address)
        ]
        wishes = {"language": request.language, "events": list(dict.fromkeys(request.events))}
        if known:
            await self._repository.change(tx, known[0].id, **wishes)
            if known[0].confirmed_at is None:
                await self._ask(tx, known[0].id)
            return await self._one(tx, owner, known[0].id)
        if await self._repository.made_lately(tx, owner) >= MOST_CHANNELS:
            raise TooManyChannels(
                f"You have {MOST_CHANNELS} channels, counting those removed in the last day.",
                way_out="`tesra notify` lists them; `tesra notify remove` makes room tomorrow.",
            )
        return await self._add(tx, owner, request.kind, wishes | {"address": address})

    async def confirm(self, tx: Tx, owner: UserId, code: str) -> Channel | None:
        """The address that this code was sent to, told from now on; None for a wrong code, which
        counts: commit in both cases.
        """
        await self._repository.lock_owner(tx, owner)
        pending = await self._repository.pending(tx, owner, age=_CODE_AGE, tries=CODE_TRIES)
        for row in pending:
            right = self._sealer.open(row.secret, row.id.encode())
            if hmac.compare_digest(right, code.strip().encode()):
                await self._repository.change(tx, row.id, confirmed_at=func.now(), problem=None)
                return await self._one(tx, owner, row.id)
        for row in pending:
            await self._repository.change(tx, row.id, wrong_codes=row.wrong_codes + 1)
        return None

    async def test(self, tx: Tx, owner: UserId, channel: str) -> Channel:
        """Send a notice there that says only that it comes."""
        found = await self._one(tx, owner, channel)
        if not found.confirmed:
            raise Unconfirmed(way_out="`tesra notify confirm CODE`: the code came by mail.")
        await self._queue(tx, channel, Happening(Event.TEST, await self._now(tx)))
        return found

    async def remove(self, tx: Tx, owner: UserId, channel: str) -> None:
        """What is on its way to it is dropped too."""
        await self._one(tx, owner, channel)
        await self._repository.change(tx, channel, removed_at=func.now(), secret=b"")

    def _checked(self, request: ChannelRequest) -> str:
        if request.kind == "webhook":
            return check_hook_url(request.address, private=self._private_hooks)
        if not self._mails:
            raise MailOff(
                way_out="Its operator can set TESRA_SMTP_URL; `tesra notify webhook URL` works."
            )
        return check_mailbox(request.address)

    async def _add(self, tx: Tx, owner: UserId, kind: str, wishes: dict[str, Any]) -> Channel:
        channel, key = new_id("ntc"), os.urandom(SECRET_BYTES)
        values = {"id": channel, "owner": owner, "kind": kind, **wishes}
        values["secret"] = self._sealer.seal(key, channel.encode())
        if kind == "webhook":
            values["confirmed_at"] = func.now()
        await self._repository.add(tx, values)
        if kind == "email":
            await self._ask(tx, channel)
        made = await self._one(tx, owner, channel)
        return made.model_copy(update={"secret": show_secret(key)}) if kind == "webhook" else made

    async def _ask(self, tx: Tx, channel: str) -> None:
        """Mail a fresh code; not twice in a minute."""
        if await self._repository.asked_within(tx, channel, _CODE_PAUSE):
            return
        code = f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}}"
        sealed = self._sealer.seal(code.encode(), channel.encode())
        await self._repository.change(
            tx, channel, secret=sealed, asked_at=func.now(), wrong_codes=0, problem=None
        )
        await self._defer(tx, CODE_JOB, {"notice": new_id("msg"), "channel": channel})

    async def _queue(self, tx: Tx, channel: str, said: Happening) -> None:
        job = {"notice": new_id("msg"), "channel": channel, "happening": said.plain()}
        await self._defer(tx, DELIVERY_JOB, job)

    async def _now(self, tx: Tx) -> str:
        return str((await tx.execute(select(func.now()))).scalar_one().isoformat())

    async def _one(self, tx: Tx, owner: UserId, channel: str) -> Channel:
        row = await self._repository.one(tx, channel)
        if row is None or row.owner != owner:
            raise ChannelUnknown(way_out="`tesra notify` lists yours.")
        return _shown(row)


def _shown(row: Row[Any]) -> Channel:
    return Channel(
        id=row.id,
        kind=row.kind,
        address=row.address,
        language=row.language,
        events=row.events,
        confirmed=row.confirmed_at is not None,
        created_at=row.created_at,
        told_at=row.told_at,
        problem=row.problem,
    )
