"""The hubs of this process: one for each run and each user that somebody looks at now."""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tesra.db.notify import Ids, Subscription
from tesra.web.context import Services
from tesra.web.live.channel import Channel

TICK_S = 0.1
BEAT_S = 5.0
OUTAGE_S = 1.0

log = logging.getLogger(__name__)


class Hub(ABC):
    """Reads once for all who look on. Hears its topics, looks, and puts what is new into channels."""

    topics: tuple[str, ...] = ()
    tick_s = TICK_S  # between two looks

    def __init__(self, services: Services) -> None:
        self.services = services
        self.channels: set[Channel] = set()
        self.over = False  # it looks no more
        self.finished = False  # there is nothing more to look for: what it has seen stays true
        self.guests = 0
        self._news = Subscription()
        self._begun = self._done = 0  # looks
        self._looked = asyncio.Event()
        self._forgotten = -1

    @abstractmethod
    async def look(self, news: list[Ids]) -> None:
        """Read what may be new, and tell it; an empty list means that anything may be."""

    def patience_s(self) -> float:
        """How long nothing has to be looked at if no news come."""
        return BEAT_S

    def everything(self) -> bool:
        """Whether wake-ups may have been missed since this was last asked, or it is the first time."""
        before, self._forgotten = self._forgotten, self._news.forgotten
        return before != self._forgotten

    def stop(self) -> None:
        """Nobody looks on: it ends after the look that it is at."""
        self.over = True
        self._news.forget()

    async def ready(self) -> None:
        """The first look is done, or the hub is over."""
        while self._done < 1 and not self.over:
            await self._looked.wait()

    async def looked(self) -> None:
        """A look that began from now on is done, or the hub is over."""
        wanted = self._begun + 1
        self._news.forget()
        while self._done < wanted and not self.over:
            await self._looked.wait()

    async def run(self) -> None:
        """Until it is over; an outage of the database is waited for."""
        listener = self.services.listener
        for topic in self.topics:
            listener.hear(topic, self._news)
        news: list[Ids] = []
        try:
            while not (self.over or listener.ending):
                began = time.monotonic()
                self._begun += 1
                try:
                    await self.look(news)
                except (OperationalError, InterfaceError, PoolTimeout) as error:
                    log.warning("live pages wait for the database: %s", type(error).__name__)
                    self._beat()
                    await asyncio.sleep(OUTAGE_S)
                    news = []
                    self._news.forget()
                    continue
                self._tell_looked()
                self._beat()
                if not self.over:
                    await asyncio.sleep(max(0.0, self.tick_s - (time.monotonic() - began)))
                    news = await self._news.wait(self.patience_s())
        finally:
            for topic in self.topics:
                listener.unhear(topic, self._news)
            self.over = True
            self._tell_looked()
            for channel in self.channels:
                channel.close()

    def _beat(self) -> None:
        now = time.monotonic()
        for channel in self.channels:
            channel.beat(now)

    def _tell_looked(self) -> None:
        self._done = self._begun
        self._looked.set()
        self._looked = asyncio.Event()


AnyHub = TypeVar("AnyHub", bound=Hub)


class Hubs:
    """Hubs by name; each lives as long as somebody is in it."""

    def __init__(self) -> None:
        self._hubs: dict[str, Hub] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._hubs)

    @contextmanager
    def enter(self, name: str, make: Callable[[], AnyHub]) -> Iterator[AnyHub]:
        """The hub of this name inside the block."""
        known = self._hubs.get(name)
        if known is None or (known.over and not known.finished):
            known = self._hubs[name] = make()
            task = asyncio.create_task(known.run(), name=f"live {name}")
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        hub = cast(AnyHub, known)  # a name belongs to one kind of hub
        hub.guests += 1
        try:
            yield hub
        finally:
            hub.guests -= 1
            if hub.guests == 0:
                hub.stop()
                if self._hubs.get(name) is hub:
                    del self._hubs[name]

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a hub of live pages broke: %s", task.get_name(), exc_info=task.exception())
