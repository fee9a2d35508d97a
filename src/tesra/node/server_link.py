"""The controller's side of the site protocol: enrolment, the list, the journal, the leases.

A lease counts from the moment its renewal was *sent*, on the monotonic clock, and ends here one
tenth early: so it never outlives the server's own count.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from tesra.kit.errors import TesraError
from tesra.node.site_client import ServerAway, SiteClient, UnknownSite
from tesra.node.spool import Spool
from tesra.wire.site import (
    Assignments,
    AttemptRef,
    Enrolment,
    EnrolNode,
    Messages,
    NodeEngines,
    Renewal,
    WarmEngine,
)

LONG_POLL_S = 25.0
RENEW_EVERY_S = 10.0
BATCH = 500
_LIST_EACH_S = 0.004  # a list is not asked for again at once, the longer it is: it names them all
_LIST_MOST_S = 0.2
_LEASE_S = 600.0
_LEASE_PART = 0.9
_LEAVE_S = 2.0
_BACKOFF_FIRST_S = 0.1
_BACKOFF_MOST_S = 5.0

_log = logging.getLogger(__name__)


class ServerLink:
    """One per controller; survives any outage of the server."""

    def __init__(self, client: SiteClient, spool: Spool, site: str) -> None:
        self._client = client
        self._spool = spool
        self._site = site
        self._nodes: list[EnrolNode] = []
        self._lease_s = _LEASE_S * _LEASE_PART
        self._held_since: dict[str, float] = {}
        self._queued = asyncio.Event()
        self._flushed = asyncio.Event()
        self._enrolled = asyncio.Event()
        self._placing = asyncio.Lock()  # where the server is in the journal: one question at a time
        self._on_gone: Callable[[list[str]], None] = lambda _: None

    @property
    def addresses(self) -> dict[str, str]:
        return {node.id: node.address for node in self._nodes}

    async def offer(self, nodes: Sequence[EnrolNode]) -> None:
        """These nodes are there now; returns when the server knows."""
        self._nodes = list(nodes)
        await self._enrol()

    async def tell_engines(self, node: str, engines: Sequence[WarmEngine]) -> None:
        """What is warm on a node has changed. If it can't be said now, the next change or enrolment does."""
        self._nodes = [
            known.model_copy(update={"engines": list(engines)}) if known.id == node else known
            for known in self._nodes
        ]
        await self._client.tell_engines(node, NodeEngines(engines=list(engines)))

    def wake(self) -> None:
        """There is something new in the journal."""
        self._flushed.clear()
        self._queued.set()

    async def flushed(self) -> None:
        """Returns when the server has everything."""
        await self._flushed.wait()

    async def leave(self) -> None:
        """Offer nothing any more, so that what is lost here is placed elsewhere; one try."""
        self._nodes = []
        enrolment = Enrolment(site=self._site, boot_id=self._spool.boot_id, nodes=[])
        try:
            async with asyncio.timeout(_LEAVE_S):
                await self._client.enrol(enrolment)
        except (TesraError, TimeoutError) as error:
            _log.warning("the server was not told that this site ends: %s", error)

    def hold(self, attempt: str, since: float) -> None:
        """A new attempt, leased since that moment; it is renewed with the others."""
        self._held_since[attempt] = since

    def let_go(self, attempt: str) -> None:
        self._held_since.pop(attempt, None)

    def left_s(self, attempt: str) -> float:
        """How long the attempt may still run unless its lease is renewed."""
        since = self._held_since.get(attempt, time.monotonic())
        return since + self._lease_s - time.monotonic()

    async def follow(
        self,
        nodes: Iterable[EnrolNode],
        *,
        on_list: Callable[[Assignments, float], None],
        on_gone: Callable[[list[str]], None],
    ) -> None:
        """Enrol, then follow the list and deliver the journal for ever."""
        self._nodes = list(nodes)
        self._on_gone = on_gone
        await self._enrol()
        delivering = asyncio.create_task(self._deliver())
        try:
            await self._poll(on_list)
        finally:
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)

    async def renew_leases(self, spread: Callable[[dict[str, float]], Awaitable[None]]) -> None:
        """Renew for ever, also what has ended until the server knows; ``spread`` tells the nodes."""
        await self._enrolled.wait()
        backoff = Backoff()
        while True:
            refs = [
                AttemptRef(attempt=attempt, fence=note.fence)
                for attempt, note in self._spool.notes.items()
            ]
            sent_at = time.monotonic()
            try:
                answer = await self._client.renew(
                    Renewal(boot_id=self._spool.boot_id, attempts=refs)
                )
            except TesraError as error:
                await self._recover(error, backoff, "renewal")
                continue
            backoff = Backoff()
            self._held_since |= dict.fromkeys(answer.renewed, sent_at)
            self._on_gone(answer.gone)
            await spread({attempt: self.left_s(attempt) for attempt in answer.renewed})
            await asyncio.sleep(RENEW_EVERY_S)

    async def _poll(self, on_list: Callable[[Assignments, float], None]) -> None:
        after, backoff = -1, Backoff()
        while True:
            sent_at = time.monotonic()
            try:
                answer = await self._client.assignments(after, LONG_POLL_S)
            except TesraError as error:
                await self._recover(error, backoff, "assignments")
                continue
            backoff = Backoff()
            if answer.version != after:
                after = answer.version
                on_list(answer, sent_at)
                await asyncio.sleep(min(_LIST_EACH_S * len(answer.assignments), _LIST_MOST_S))

    async def _deliver(self) -> None:
        backoff = Backoff()
        while True:
            batch = self._spool.pending(BATCH)
            if not batch:
                self._queued.clear()
                self._flushed.set()
                await self._queued.wait()
                continue
            messages = Messages(boot_id=self._spool.boot_id, messages=batch)
            try:
                async with self._placing:
                    answer = await self._client.send(messages)
                    self._spool.acknowledge(answer.seq)
            except TesraError as error:
                await self._recover(error, backoff, "messages")
                continue
            backoff = Backoff()
            self._on_gone(answer.stale)

    async def _enrol(self) -> None:
        backoff = Backoff()
        while True:
            enrolment = Enrolment(site=self._site, boot_id=self._spool.boot_id, nodes=self._nodes)
            try:
                async with self._placing:
                    answer = await self._client.enrol(enrolment)
                    self._spool.align(answer.high_water)
            except TesraError as error:
                _log.warning("enrolment waits: %s", error.detail)
                await backoff.pause()
                continue
            self._lease_s = answer.lease_s * _LEASE_PART
            self._enrolled.set()
            return

    async def _recover(self, error: TesraError, backoff: "Backoff", what: str) -> None:
        """Wait a little; a server that does not know this site, or its place, gets told first."""
        if not isinstance(error, ServerAway):
            _log.warning("%s: %s", what, error.detail)
        await backoff.pause()
        if isinstance(error, UnknownSite) or (
            what == "messages" and not isinstance(error, ServerAway)
        ):
            await self._enrol()


class Backoff:
    """Waits that grow, with jitter, so that many sites do not come back at the same instant."""

    def __init__(self) -> None:
        self._next_s = _BACKOFF_FIRST_S

    async def pause(self) -> None:
        await asyncio.sleep(self._next_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter only
        self._next_s = min(self._next_s * 2, _BACKOFF_MOST_S)
