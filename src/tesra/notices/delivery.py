"""Deliver notices: each at least once, its id the same at every try. Run by the job queue.

What can't be delivered raises, so that the queue tries again; the channel says why.
"""

import asyncio
from typing import Any

from sqlalchemy import Row, func

from tesra.crypto.aead import Sealer
from tesra.db.engine import Database
from tesra.kit.errors import TesraError
from tesra.notices import hooks, mailing
from tesra.notices.mailing import MailServer
from tesra.notices.model import Happening, MailOff
from tesra.notices.repository import ChannelRepository
from tesra.notices.words import Tell, body, code_words, subject, text


class Deliveries:
    """The two jobs of notices."""

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        *,
        mail: MailServer | None,
        private_hooks: bool,
        tell: Tell,
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._mail = mail
        self._tell = tell
        self._private_hooks = private_hooks
        self._repository = ChannelRepository()

    async def deliver(self, notice: str, channel: str, happening: dict[str, Any]) -> None:
        """Tell it; nothing if the channel has been removed meanwhile."""
        row = await self._channel(channel)
        if row is None or row.confirmed_at is None:
            return
        said = Happening.of(happening)
        try:
            if row.kind == "email":
                words = subject(said, row.language), text(said, row.language, self._tell)
                await self._send(row, words, notice)
            else:
                key = self._sealer.open(row.secret, channel.encode())
                content = body(said, row.language, self._tell)
                await hooks.call(row.address, key, notice, content, private=self._private_hooks)
        except TesraError as error:
            await self._note(channel, problem=error.detail)
            raise
        await self._note(channel, problem=None, told_at=func.now())

    async def mail_code(self, notice: str, channel: str) -> None:
        """Send the code that confirms an address, unless that is done."""
        row = await self._channel(channel)
        if row is None or row.confirmed_at is not None:
            return
        code = self._sealer.open(row.secret, channel.encode()).decode()
        try:
            await self._send(row, code_words(code, row.language), notice)
        except TesraError as error:
            await self._note(channel, problem=error.detail)
            raise
        await self._note(channel, problem=None)

    async def _send(self, row: Row[Any], words: tuple[str, str], notice: str) -> None:
        if self._mail is None:
            raise MailOff
        message = mailing.compose(self._mail, row.address, words, notice)
        await asyncio.to_thread(mailing.send, self._mail, message)

    async def _channel(self, channel: str) -> Row[Any] | None:
        async with self._database.begin() as tx:
            return await self._repository.one(tx, channel)

    async def _note(self, channel: str, **values: Any) -> None:
        async with self._database.begin() as tx:
            await self._repository.change(tx, channel, **values)
