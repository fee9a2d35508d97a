"""A storage peer: does what the server's orders say, and tells what is so.

Level-triggered like a site: an order stays until a fact has answered it, so whatever is lost on
the way is asked again. Nothing here decides who holds what.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from tesra.crypto.requests import new_key
from tesra.kit.errors import TesraError
from tesra.kit.saying import Said, said
from tesra.node.peer.direct import DirectDoor, DirectFailed
from tesra.node.peer.folder import PackFolder, PeerFull
from tesra.node.peer.link import EnrolAgain, PeerLink, ServerAway
from tesra.node.peer.proving import Scrubber, Watcher, answer_challenge, scrub
from tesra.storage.merkle import PackTree, check_tree
from tesra.storage.swarm import BadData, LibtorrentSwarm, PeerIdentity, SwarmFailed, TransferStalled
from tesra.wire.peer import (
    Dropped,
    Fact,
    FetchFailed,
    FetchOrder,
    Held,
    Lost,
    PackTruth,
    PeerEnrolment,
    PeerOrders,
    ProofOrder,
    Quarantined,
    Serving,
)

STALL_S = 12.0
LINGER_S = 30.0  # a pack that was served rests when nobody has wanted it for so long
_BACKOFF_FIRST_S = 0.2
_BACKOFF_MOST_S = 5.0
_FACTS_AT_ONCE = 100  # a proof has up to 100 kB
_READERS = 2

log = logging.getLogger(__name__)

Asked = ParamSpec("Asked")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """Who the peer is to the server, and where others reach it."""

    name: str
    machine: str
    host: str
    port: int = 0
    gateway: bool = False
    site: str = ""


class StoragePeer:
    """``run`` until it is cancelled."""

    def __init__(
        self, folder: PackFolder, link: PeerLink, direct: DirectDoor, config: PeerConfig
    ) -> None:
        self._folder = folder
        self._link = link
        self._direct = direct
        self._config = config
        self._id = folder.peer_id()
        self._swarm: LibtorrentSwarm | None = None
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._idle_since: dict[str, float] = {}
        self._facts: list[Fact] = []
        self._to_tell = asyncio.Event()
        self._reading = asyncio.Semaphore(_READERS)
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Enrol, then work off orders for ever."""
        beside = [
            asyncio.create_task(self._tell()),
            asyncio.create_task(Scrubber(self._folder, self._say).run()),
            asyncio.create_task(Watcher(self._folder, self._say).run()),
        ]
        try:
            while True:
                seconds = await self._enrol()
                with contextlib.suppress(TimeoutError, EnrolAgain):
                    async with asyncio.timeout(seconds):
                        await self._follow()
        finally:
            tasks = (*beside, *self._busy.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._swarm is not None:
                await self._swarm.close()

    async def _enrol(self) -> int:
        """A fresh certificate, and the swarm under it; how long it is good for (s)."""
        own = new_key(self._id)
        held = await asyncio.to_thread(self._folder.held)
        port = self._swarm.port if self._swarm is not None else self._config.port
        identity = None
        while identity is None:
            if self._swarm is None and port == 0:
                port = _free_port(self._config.host)
            request = PeerEnrolment(
                peer=self._id,
                name=self._config.name,
                machine=self._config.machine,
                site=self._config.site,
                host=self._config.host,
                port=port,
                capacity_bytes=self._folder.capacity_bytes,
                gateway=self._config.gateway,
                request=own.request,
                holds=held,
            )
            answer = await self._patiently(self._link.enrol, request)
            identity = PeerIdentity(answer.certificate, own.key, answer.authority)
            if self._swarm is None:
                swarm = LibtorrentSwarm(
                    identity, host=self._config.host, on_bad_data=self._note_bad_data
                )
                try:
                    await swarm.open(port)
                except SwarmFailed:
                    if self._config.port:
                        raise
                    port, identity = 0, None  # somebody was faster: another port
                    continue
                self._swarm = swarm
            else:
                await self._swarm.renew(identity)
        log.info("peer %s (%s) is in, port %d", self._config.name, self._id, port)
        return answer.renew_after_s

    async def _follow(self) -> None:
        version = ""
        while True:
            orders = await self._patiently(self._link.orders, self._id, version)
            version = orders.version
            await self._act(orders)

    async def _act(self, orders: PeerOrders) -> None:
        for fetch in orders.fetch:
            self._begin(f"fetch {fetch.pack.pack}", self._fetch(fetch))
        for truth in orders.serve:
            self._begin(f"serve {truth.pack}", self._serve(truth))
        for pack_id in orders.drop:
            self._begin(f"drop {pack_id}", self._drop(pack_id))
        for challenge in orders.prove:
            self._begin(f"prove {challenge.audit}", self._prove(challenge))
        for pack_id in orders.scrub:
            self._begin(f"scrub {pack_id}", self._scrub(pack_id))
        for pack_id in orders.quarantine:
            self._begin(f"quarantine {pack_id}", self._quarantine(pack_id))
        wanted = {truth.pack for truth in orders.serve} | {one.pack.pack for one in orders.fetch}
        await self._rest_idle(wanted)

    def _begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Do it beside the rest, once at a time."""
        if name in self._busy:
            work.close()
            return
        task = asyncio.create_task(self._guarded(name, work))
        self._busy[name] = task
        task.add_done_callback(lambda _: self._busy.pop(name, None))

    async def _guarded(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            log.exception("%s", name)

    async def _fetch(self, order: FetchOrder) -> None:
        tree = _tree(order.pack)
        if tree is None:
            self._say(
                FetchFailed(pack=order.pack.pack, reason=said("the pack's tree makes no sense"))
            )
            return
        if await asyncio.to_thread(self._folder.holds, tree):
            self._say(Held(pack=tree.pack_id))
            return
        await self._live.rest(tree.pack_id)  # it may be served still, from a file that is gone
        sources = [(source.host, source.port) for source in order.sources]
        try:
            await asyncio.to_thread(self._folder.require_room, tree)
            if sources:
                await self._live.fetch(tree, self._folder.incoming, sources, stall_s=STALL_S)
                await asyncio.to_thread(self._folder.keep, tree)
            else:
                await asyncio.to_thread(self._bring, tree)
        except PeerFull as error:
            self._say(FetchFailed(pack=tree.pack_id, reason=Said(error.detail), full=True))
        except (TransferStalled, SwarmFailed, DirectFailed) as error:
            self._say(FetchFailed(pack=tree.pack_id, reason=Said(error.detail[:500])))
        else:
            self._say(Held(pack=tree.pack_id))

    def _bring(self, tree: PackTree) -> None:
        """From the server, which holds it and waits for it to be here as well."""
        with self._folder.disk_words():
            self._direct.fetch(self._id, tree, self._folder.incoming / tree.pack_id)
        self._folder.keep(tree)
        self._folder.clear_incoming(tree.pack_id)

    async def _serve(self, truth: PackTruth) -> None:
        tree = _tree(truth)
        if tree is None:
            return
        if self._config.gateway and tree.pack_id not in self._live.active():
            await asyncio.to_thread(
                self._folder.note_new, tree.pack_id
            )  # the server has put it here
        try:
            await self._live.serve(tree, self._folder.home_of(tree.pack_id))
        except SwarmFailed as error:
            self._say(Lost(pack=tree.pack_id, reason=Said(error.detail)))
        else:
            self._say(Serving(pack=tree.pack_id))

    async def _drop(self, pack_id: str) -> None:
        await self._live.rest(pack_id)
        await asyncio.to_thread(self._folder.drop, pack_id)
        self._say(Dropped(pack=pack_id))

    async def _prove(self, order: ProofOrder) -> None:
        async with self._reading:
            self._say(await asyncio.to_thread(answer_challenge, self._folder, order))

    async def _scrub(self, pack_id: str) -> None:
        async with self._reading:
            self._say(await asyncio.to_thread(scrub, self._folder, pack_id))

    async def _quarantine(self, pack_id: str) -> None:
        await self._live.rest(pack_id)
        await asyncio.to_thread(self._folder.quarantine, pack_id)
        log.warning("pack %s is in quarantine: it is not what it was", pack_id)
        self._say(Quarantined(pack=pack_id))

    async def _rest_idle(self, wanted: set[str]) -> None:
        """Packs that nobody wants any more leave the swarm, after a while."""
        now = asyncio.get_running_loop().time()
        for pack_id in self._live.active():
            if pack_id in wanted or f"fetch {pack_id}" in self._busy:
                self._idle_since.pop(pack_id, None)
            elif now - self._idle_since.setdefault(pack_id, now) > LINGER_S:
                del self._idle_since[pack_id]
                await self._live.rest(pack_id)
                await asyncio.to_thread(self._folder.clear_incoming, pack_id)

    async def _tell(self) -> None:
        while True:
            await self._to_tell.wait()
            self._to_tell.clear()
            while self._facts:
                some = self._facts[:_FACTS_AT_ONCE]
                with contextlib.suppress(EnrolAgain):
                    await self._patiently(self._link.tell, self._id, some)
                del self._facts[: len(some)]

    async def _patiently(
        self, ask: Callable[Asked, Awaitable[Result]], *asked: Asked.args, **named: Asked.kwargs
    ) -> Result:
        """As long as the server is away, again; a refusal is logged and tried again too."""
        pause_s = _BACKOFF_FIRST_S
        while True:
            try:
                return await ask(*asked, **named)
            except EnrolAgain:
                raise
            except ServerAway as error:
                log.info("%s", error.detail)
            except TesraError as error:
                log.warning("refused: %s %s", error.detail, error.way_out or "")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _BACKOFF_MOST_S)

    @property
    def _live(self) -> LibtorrentSwarm:
        assert self._swarm is not None, "orders come after enrolment"
        return self._swarm

    def _say(self, fact: Fact) -> None:
        """From any thread."""
        self._facts.append(fact)
        self._loop.call_soon_threadsafe(self._to_tell.set)

    def _note_bad_data(self, bad: BadData) -> None:
        log.warning("bad data of pack %s from %s:%d", bad.pack_id, *bad.endpoint)


def _tree(truth: PackTruth) -> PackTree | None:
    """The tree as the server tells it, believed only when it makes sense."""
    try:
        tree = PackTree(
            truth.pack, truth.size_bytes, bytes.fromhex(truth.root), bytes.fromhex(truth.layer)
        )
    except ValueError:
        return None
    return tree if check_tree(tree) else None


def _free_port(host: str) -> int:

    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
