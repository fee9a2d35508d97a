"""One viewer's outbox with a bell on it: who fills it never waits, who empties it does."""

import asyncio
import time

from tesra.web.live.events import HEARTBEAT
from tesra.web.live.outbox import Event, Outbox

HEARTBEAT_S = 15.0
LIFE_S = 3600.0  # then the viewer comes again, and is asked again who it is


class Channel:
    """Open until its hub, its age or the end of the stream closes it."""

    def __init__(self, *, rank: int | None = None) -> None:
        self.rank = rank
        self.outbox = Outbox()
        self.closed = False
        self._bell: asyncio.Future[None] | None = None
        self._opened_at = self._spoke_at = time.monotonic()

    def put(self, event: Event) -> None:
        self.outbox.put(event)
        self._ring()

    def close(self) -> None:
        """What waits is still sent."""
        self.closed = True
        self._ring()

    def beat(self, now: float) -> None:
        """A sign of life if it was silent for long; closed when it is old."""
        if now - self._opened_at > LIFE_S:
            self.close()
        elif now - self._spoke_at >= HEARTBEAT_S and not len(self.outbox):
            self.put(Event(HEARTBEAT, key="alive"))

    async def take(self) -> bytes:
        """What comes next, as soon as there is something; empty at the end."""
        while not (data := self.outbox.take()):
            if self.closed:
                return b""
            self._bell = asyncio.get_running_loop().create_future()
            await self._bell
        self._spoke_at = time.monotonic()
        return data

    def _ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)
