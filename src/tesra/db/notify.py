"""Wake-ups between processes over LISTEN/NOTIFY: they say where to look, never what is there.

A wake-up is sent when the transaction commits, and may be lost (a connection breaks); therefore
every subscription is woken after each new connection, and waiting always has a time-out.
"""

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import parse_qsl, urlencode

import psycopg
from sqlalchemy import ARRAY, Text, bindparam, func, select

from tesra.db.engine import Tx, libpq_url

CHANNEL = "tesra"
PAYLOAD_LIMIT_BYTES = 7999  # PostgreSQL's own limit
PENDING_LIMIT = 1000  # of one slow subscriber; past it, it is told to look at everything
HEALTH_CHECK_S = 30
ANSWER_TIMEOUT_S = 10
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 5.0

Ids = dict[str, str | int]

log = logging.getLogger(__name__)

_NOTIFY = select(
    func.pg_notify(CHANNEL, func.unnest(bindparam("payloads", type_=ARRAY(Text))).column_valued())
)


async def notify(tx: Tx, topic: str, **ids: str | int) -> None:
    """Tell the subscribers of ``topic`` which ids changed, once this transaction is committed."""
    await tx.execute(_NOTIFY, {"payloads": [wake_up(topic, **ids)]})


def wake_up(topic: str, **ids: str | int) -> str:
    """What ``notify`` says, for a statement that does so itself: ``pg_notify(CHANNEL, …)``."""
    payload = json.dumps({"topic": topic, **ids}, separators=(",", ":"))
    if len(payload) > PAYLOAD_LIMIT_BYTES:
        raise ValueError(f"A wake-up carries ids only; this one has {len(payload)} bytes.")
    return payload


def topic_with(topic: str, **ids: str) -> str:
    """A topic with ids, as one text that ``notify_all`` takes: ``user:usr_1?run=run_2``."""
    return f"{topic}?{urlencode(ids)}"


async def notify_all(tx: Tx, topics: Sequence[str]) -> None:
    """``notify`` for several topics, in one statement; ids stand behind them as ``topic_with`` put them."""
    parted = [topic.partition("?") for topic in topics]
    said = [{"topic": topic, **dict(parse_qsl(ids))} for topic, _, ids in parted]
    payloads = [json.dumps(one, separators=(",", ":")) for one in said]
    await tx.execute(_NOTIFY, {"payloads": payloads})


class Subscription:
    """What one waiter has not seen yet."""

    def __init__(self) -> None:
        self._pending: dict[str, Ids] = {}  # by their JSON, so that equal ones are kept once
        self._woken = asyncio.Event()
        self.forgotten = 0  # how often wake-ups may have been missed

    async def wait(self, timeout_s: float) -> list[Ids]:
        """The ids of all wake-ups since the last call, equal ones once, oldest first.

        An empty list means that nothing is known: time-out, a new connection, or too many to
        keep. Look at the rows themselves then.
        """
        if not self._woken.is_set():
            try:
                async with asyncio.timeout(timeout_s):
                    await self._woken.wait()
            except TimeoutError:
                return []
        self._woken.clear()
        pending, self._pending = list(self._pending.values()), {}
        return pending

    def add(self, ids: Ids) -> None:
        """One wake-up."""
        if len(self._pending) < PENDING_LIMIT:
            self._pending[json.dumps(ids, sort_keys=True)] = ids
            self._woken.set()
        else:
            self.forget()

    def forget(self) -> None:
        """Wake up with nothing known."""
        self.forgotten += 1
        self._pending.clear()
        self._woken.set()


class Listener:
    """One connection that hears all wake-ups and hands them to this process's subscribers."""

    def __init__(self, url: str) -> None:
        self._url = libpq_url(url)
        self._subscriptions: dict[str, set[Subscription]] = {}
        self.ending = False  # who waits in a loop leaves it

    def end(self) -> None:
        """The process ends: whoever waits is woken, and nobody waits from now on."""
        self.ending = True
        self._wake_all()

    @contextmanager
    def subscribe(self, topic: str) -> Iterator[Subscription]:
        """Hear ``topic`` inside the block; subscribe first, then read the rows, then wait."""
        subscription = Subscription()
        if self.ending:
            subscription.forget()
        self.hear(topic, subscription)
        try:
            yield subscription
        finally:
            self.unhear(topic, subscription)

    def hear(self, topic: str, subscription: Subscription) -> None:
        """Wake this subscription for another topic too; ``unhear`` when it does not matter any more."""
        self._subscriptions.setdefault(topic, set()).add(subscription)

    def unhear(self, topic: str, subscription: Subscription) -> None:
        subscribers = self._subscriptions.get(topic, set())
        subscribers.discard(subscription)
        if not subscribers:
            self._subscriptions.pop(topic, None)

    async def run(self) -> None:
        """Listen until cancelled; a lost connection is made again, ever more patiently."""
        pause_s = FIRST_BACKOFF_S
        while True:
            try:
                async with self._connected() as connection:
                    pause_s = FIRST_BACKOFF_S
                    self._wake_all()
                    await self._listen(connection)
            except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as error:
                log.warning("wake-ups lost their connection (%s); again in %.1f s", error, pause_s)
                await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - spread, no secret
                pause_s = min(pause_s * 2, LONGEST_BACKOFF_S)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[psycopg.AsyncConnection]:
        connection = await psycopg.AsyncConnection.connect(
            self._url, autocommit=True, connect_timeout=ANSWER_TIMEOUT_S
        )
        try:
            await connection.execute(f"LISTEN {CHANNEL}")
            yield connection
        finally:
            await connection.close()

    async def _listen(self, connection: psycopg.AsyncConnection) -> None:
        while True:
            async for note in connection.notifies(timeout=HEALTH_CHECK_S):
                self._dispatch(note.payload)
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await connection.execute("SELECT 1")  # notices a connection that died in silence

    def _dispatch(self, payload: str) -> None:
        try:
            ids = json.loads(payload)
        except ValueError:
            ids = None
        topic = ids.pop("topic", None) if isinstance(ids, dict) else None
        if not isinstance(topic, str):
            log.warning("a wake-up that is not ours was ignored: %.100s", payload)
            return
        for subscription in self._subscriptions.get(topic, ()):
            subscription.add(ids)

    def _wake_all(self) -> None:
        for subscribers in self._subscriptions.values():
            for subscription in subscribers:
                subscription.forget()
