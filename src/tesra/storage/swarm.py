"""Packs between peers over BitTorrent v2: ciphertext only, TLS only, told peers only.

The one module that knows libtorrent. A pack is one private torrent under Tesra's own authority:
a connection needs a certificate of that authority on both sides, and who is connected to is told
by the caller; nothing is announced anywhere. Every 16 KiB that comes in is checked against the
pack's Merkle tree before it counts, whoever sent it.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import libtorrent

from tesra.kit.errors import Unavailable
from tesra.kit.saying import said
from tesra.storage.merkle import PackTree
from tesra.storage.torrents import FFDHE2048_PEM, torrent_of

Endpoint = tuple[str, int]

_log = logging.getLogger(__name__)


class TransferStalled(Unavailable):
    """No peer has sent anything of the pack for a while."""


class SwarmFailed(Unavailable):
    """The pack can't be read or written here."""


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """PEM texts: who this peer is, and whose word it takes for who others are."""

    certificate: str
    key: str
    authority: str


@dataclass(frozen=True, slots=True)
class BadData:
    """A peer has sent what the pack does not hold; it is not asked again."""

    pack_id: str
    endpoint: Endpoint


class Swarm(Protocol):
    """The transport of packs; each call returns when what it says is so."""

    @property
    def port(self) -> int:
        """Where other peers connect to."""
        ...

    async def serve(self, tree: PackTree, folder: Path) -> None:
        """Give the pack's file (named by its id, in ``folder``, known to be good) to peers.

        A second time is harmless. A file that is missing or short: ``SwarmFailed``.
        """
        ...

    async def fetch(
        self, tree: PackTree, folder: Path, peers: Sequence[Endpoint], *, stall_s: float = 30.0
    ) -> None:
        """Bring the whole pack into ``folder`` and serve it on.

        One of ``peers`` is asked first, for each pack another, and all of them when it is not
        there after 0.3 s. What lies there already counts once it is checked. It is with the operating system, not
        fsynced, when this returns. ``TransferStalled`` when nothing has come for ``stall_s``;
        the part that came stays.
        """
        ...

    async def introduce(self, pack_id: str, peers: Sequence[Endpoint]) -> None:
        """More peers to fetch an active pack from."""
        ...

    async def rest(self, pack_id: str) -> None:
        """Neither give nor take the pack any more; its file stays."""
        ...

    def active(self) -> list[str]:
        """The packs that are served or fetched now."""
        ...

    async def renew(self, identity: PeerIdentity) -> None:
        """Another certificate. When it is another authority's, what was active under the one before
        rests, and what is being fetched fails with ``SwarmFailed``: its peers have changed too.
        """
        ...

    async def close(self) -> None: ...


SETTINGS: dict[str, Any] = {
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "in_enc_policy": int(libtorrent.enc_policy.pe_disabled),  # TLS is beneath
    "out_enc_policy": int(libtorrent.enc_policy.pe_disabled),
    "tick_interval": 100,
    "close_redundant_connections": False,  # the next pack's first piece comes in 2 ms
    "allow_multiple_connections_per_ip": True,
    "unchoke_slots_limit": -1,
    "connection_speed": 500,
    "torrent_connect_boost": 255,
    "min_reconnect_time": 1,
    "max_failcount": 1000,  # the caller says when to give up
    "request_timeout": 3,  # these three: a peer that hangs is left within ten seconds
    "piece_timeout": 3,
    "peer_timeout": 10,
    "mixed_mode_algorithm": 0,
    "max_allowed_in_request_queue": 3000,
    "max_out_request_queue": 500,
    "send_buffer_watermark": 4 * 2**20,
    "send_buffer_low_watermark": 512 * 2**10,
    "send_buffer_watermark_factor": 200,
    "max_queued_disk_bytes": 32 * 2**20,
    "active_limit": -1,
    "active_seeds": -1,
    "active_downloads": -1,
    "aio_threads": 1,  # blocks are 16 KiB: more threads mostly wake each other
    "hashing_threads": 1,
    "alert_queue_size": 100_000,
    "user_agent": "tesra",
    "peer_fingerprint": "-TS0001-",
}
_ALERTS = (
    libtorrent.alert.category_t.error_notification
    | libtorrent.alert.category_t.status_notification
    | libtorrent.alert.category_t.storage_notification
    | libtorrent.alert.category_t.peer_notification
)
_LISTEN_S = 10.0
_OPEN_S = 10.0
_PROGRESS_S = 0.5
_OTHERS_AFTER_S = 0.3  # a handshake with each holder of each pack costs more than it brings


@dataclass(slots=True)
class _Active:
    handle: Any
    seeding: bool
    changed: asyncio.Event
    checked: bool = False
    finished: bool = False
    flushed: bool = False
    failure: str | None = None

    def tell(self) -> None:
        self.changed.set()


class LibtorrentSwarm:
    """One libtorrent session in one event loop. ``open`` it, ``close`` it."""

    def __init__(
        self,
        identity: PeerIdentity,
        *,
        host: str = "127.0.0.1",
        on_bad_data: Callable[[BadData], None] = lambda _: None,
    ) -> None:
        self._identity = identity
        self._host = host
        self._on_bad_data = on_bad_data
        self._session: Any = None
        self._packs: dict[str, _Active] = {}
        self._by_hash: dict[Any, str] = {}
        self._wake: tuple[int, int] | None = None
        self._port = 0
        self._listening = asyncio.Event()
        self._removed: dict[str, asyncio.Event] = {}

    @property
    def port(self) -> int:
        return self._port

    async def open(self, port: int = 0) -> None:
        """Listen; raises ``SwarmFailed`` when the port is taken."""
        listen = {"listen_interfaces": f"{self._host}:{port}s", "alert_mask": int(_ALERTS)}
        self._session = await asyncio.to_thread(_begin, {**SETTINGS, **listen})
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wake = reader, writer
        asyncio.get_running_loop().add_reader(reader, self._hear)
        self._session.set_alert_fd(writer)
        self._hear()
        try:
            await asyncio.wait_for(self._listening.wait(), _LISTEN_S)
        except TimeoutError as error:
            await self.close()
            raise SwarmFailed(f"{self._host} port {port} can't be listened on.") from error

    async def renew(self, identity: PeerIdentity) -> None:
        before, self._identity = self._identity, identity
        for pack_id, pack in list(self._packs.items()):
            if before.authority == identity.authority:
                pack.handle.set_ssl_certificate_buffer(
                    identity.certificate, identity.key, FFDHE2048_PEM
                )
            else:  # the authority is part of what names the torrent
                pack.failure = said("The network has another authority now.")
                pack.tell()
                await self.rest(pack_id)

    async def close(self) -> None:
        """Leave every pack; files stay as they are."""
        if self._wake is not None:
            reader, writer = self._wake
            self._wake = None
            asyncio.get_running_loop().remove_reader(reader)
            self._session.set_alert_fd(-1)
            session, self._session = self._session, None
            self._packs.clear()
            await asyncio.to_thread(_end, session)
            os.close(reader)
            os.close(writer)

    async def serve(self, tree: PackTree, folder: Path) -> None:
        known = self._packs.get(tree.pack_id)
        if known is not None and known.failure is None:
            return
        if known is not None:
            await self.rest(tree.pack_id)
        path = folder / tree.pack_id
        if not path.is_file() or path.stat().st_size != tree.size_bytes:
            raise SwarmFailed(f"The file of pack {tree.pack_id} is missing or cut short.")
        pack = self._add(tree, folder, (), seeding=True)
        while not pack.checked:  # before that it refuses who connects
            if pack.failure is not None:
                await self.rest(tree.pack_id)
                raise SwarmFailed(pack.failure)
            pack.changed.clear()
            await asyncio.wait_for(pack.changed.wait(), _OPEN_S)

    async def fetch(
        self, tree: PackTree, folder: Path, peers: Sequence[Endpoint], *, stall_s: float = 30.0
    ) -> None:
        first, others = _shared_out(peers, tree.pack_id)
        pack = self._packs.get(tree.pack_id)
        if pack is None:
            pack = self._add(tree, folder, first, seeding=False)
        else:
            self._connect(pack, first)
        loop = asyncio.get_running_loop()
        joining = loop.call_later(_OTHERS_AFTER_S, self._connect, pack, others)
        try:
            await self._until_there(pack, stall_s)
        except BaseException:
            await self.rest(tree.pack_id)
            raise
        finally:
            joining.cancel()

    async def introduce(self, pack_id: str, peers: Sequence[Endpoint]) -> None:
        pack = self._packs.get(pack_id)
        if pack is not None and not pack.seeding:
            self._connect(pack, peers)

    def _connect(self, pack: _Active, peers: Sequence[Endpoint]) -> None:
        if self._session is not None and pack in self._packs.values():
            for peer in peers:
                pack.handle.connect_peer(peer)

    async def rest(self, pack_id: str) -> None:
        pack = self._packs.pop(pack_id, None)
        if pack is None or self._session is None:
            return
        gone = self._removed.setdefault(pack_id, asyncio.Event())
        self._session.remove_torrent(pack.handle)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(gone.wait(), _OPEN_S)
        self._removed.pop(pack_id, None)

    def active(self) -> list[str]:
        return list(self._packs)

    def _add(
        self, tree: PackTree, folder: Path, peers: Sequence[Endpoint], *, seeding: bool
    ) -> _Active:
        """Paused first: connections are tried only when the certificate is set."""
        parameters = libtorrent.add_torrent_params()
        parameters.ti = libtorrent.torrent_info(torrent_of(tree, self._identity.authority))
        parameters.save_path = str(folder)
        parameters.peers = [(host, port) for host, port in peers]
        parameters.flags = libtorrent.torrent_flags.paused
        if seeding:
            parameters.flags |= libtorrent.torrent_flags.seed_mode
        handle = self._session.add_torrent(parameters)
        handle.set_ssl_certificate_buffer(
            self._identity.certificate, self._identity.key, FFDHE2048_PEM
        )
        pack = _Active(handle, seeding, asyncio.Event())
        self._packs[tree.pack_id] = pack
        if seeding or (folder / tree.pack_id).exists():  # what is there is checked when not paused
            handle.resume()
        return pack

    async def _until_there(self, pack: _Active, stall_s: float) -> None:
        loop = asyncio.get_running_loop()
        resumed, last_bytes, moved_at = False, -1, loop.time()
        while not pack.flushed:
            if pack.failure is not None:
                raise SwarmFailed(pack.failure)
            if pack.checked and not resumed:
                pack.handle.resume()
                resumed, moved_at = True, loop.time()
            pack.changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(pack.changed.wait(), _PROGRESS_S)
                continue
            done = pack.handle.status().total_payload_download
            if done != last_bytes:
                last_bytes, moved_at = done, loop.time()
            elif loop.time() - moved_at > stall_s:
                raise TransferStalled

    def _hear(self) -> None:
        if self._wake is None:
            return
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake[0], 4096):
                pass
        for alert in self._session.pop_alerts():
            try:
                self._note(alert)
            except Exception:  # noqa: BLE001 - the edge of the loop: one alert may not end the rest
                _log.exception("an alert could not be dealt with")

    def _note(self, alert: Any) -> None:
        match alert:
            case libtorrent.listen_succeeded_alert():
                self._port = alert.port
                self._listening.set()
            case libtorrent.torrent_removed_alert():
                gone = self._removed.get(alert.torrent_name)
                if gone is not None:
                    gone.set()
            case libtorrent.peer_ban_alert():
                host, sent_from = alert.endpoint
                self._on_bad_data(BadData(alert.torrent_name, (host, sent_from)))
            case libtorrent.torrent_alert():
                pack = self._packs.get(alert.torrent_name)
                if pack is not None:
                    self._note_pack(pack, alert)

    def _note_pack(self, pack: _Active, alert: Any) -> None:
        match alert:
            case libtorrent.torrent_checked_alert():
                pack.checked = True
            case libtorrent.torrent_finished_alert():
                pack.finished = True
                pack.handle.flush_cache()
            case libtorrent.cache_flushed_alert():
                pack.flushed = pack.finished
            case libtorrent.fastresume_rejected_alert() if pack.seeding:
                pack.failure = said("The file of the pack is not what it was.")
            case libtorrent.torrent_error_alert() | libtorrent.file_error_alert():
                pack.failure = alert.message()
            case _:
                return
        pack.tell()


def _shared_out(
    peers: Sequence[Endpoint], pack_id: str
) -> tuple[Sequence[Endpoint], Sequence[Endpoint]]:
    """Who is asked at once, and who when the pack is not there soon: of several packs each begins
    with another holder, so that all of them give."""
    if not peers:
        return (), ()
    turn = int(pack_id[:8], 16) % len(peers)
    return peers[turn : turn + 1], [*peers[turn + 1 :], *peers[:turn]]


def _begin(settings: Any) -> Any:
    return libtorrent.session(settings)


def _end(session: Any) -> None:
    """The session's own threads are joined as it goes."""
    del session
