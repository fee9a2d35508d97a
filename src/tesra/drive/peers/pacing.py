"""What one server process remembers of its peers for moments, so that a put costs little.

Nothing here is the truth: the rows are. A server that forgets all of it goes on as well.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from tesra.db.engine import Tx
from tesra.drive.peers.placement import Peer
from tesra.drive.peers.repository import PeerRepository
from tesra.kit.ids import PeerId

LATER_AT_MOST_S = 60.0  # copies that no put waits for are made when all is quiet, or after so long
QUIET_S = 2.0  # without any put or read
LATER_AT_ONCE = (
    4  # of such copies: a put or a read that begins meanwhile soon has the disk for itself
)
_PEERS_S = 1.0
_TOUCH_S = 3.0  # a peer counts as gone after ten times as long
_SLOW_S = 30.0


class Pace:
    """``wake`` tells these peers to ask for their orders."""

    def __init__(
        self, repository: PeerRepository, wake: Callable[[Iterable[PeerId]], Awaitable[None]]
    ) -> None:
        self._repository = repository
        self._wake = wake
        self._peers: tuple[float, list[Peer]] | None = None
        self._touched: dict[PeerId, tuple[float, str]] = {}
        self._slow: dict[PeerId, float] = {}
        self._puts = 0
        self._used_at = -QUIET_S
        self._sources: set[PeerId] = set()
        self._quiet: asyncio.TimerHandle | None = None
        self._waking: asyncio.Task[None] | None = None

    async def peers(self, tx: Tx) -> list[Peer]:
        """All that ever enrolled, as they were a moment ago."""
        now = _now()
        if self._peers is None or now - self._peers[0] > _PEERS_S:
            self._peers = now, await self._repository.peers(tx)
        return self._peers[1]

    def forget_peers(self) -> None:
        """Somebody has enrolled, or was shut out."""
        self._peers = None
        self._touched.clear()

    async def touch(self, tx: Tx, peer: PeerId) -> str | None:
        """The peer has just spoken: the authority of its certificate; None for one that never
        enrolled. Written down now and then. Raises ``PeerRevoked``."""
        now = _now()
        at, authority = self._touched.get(peer, (-_TOUCH_S, ""))
        if now - at < _TOUCH_S:
            return authority
        known = await self._repository.touch(tx, peer)
        if known is not None:
            self._touched[peer] = now, known
        return known

    def found_slow(self, peers: Iterable[PeerId]) -> None:
        """A put had to ask others because of these."""
        self._slow |= dict.fromkeys(peers, _now())

    def quickest_first(self, peers: Sequence[Peer]) -> list[Peer]:
        """Those that were slow lately come last."""
        border = _now() - _SLOW_S
        return sorted(peers, key=lambda peer: self._slow.get(peer.id, border) > border)

    @property
    def later_after_s(self) -> float:
        """How old a copy that no put waits for has to be, for its sources to be asked to serve it."""
        busy = self._puts or _now() - self._used_at < QUIET_S
        return LATER_AT_MOST_S if busy else 0.0

    def use(self) -> None:
        """Somebody reads: copies that nobody waits for wait a little longer."""
        self._used_at = _now()
        if self._sources:
            self._look_again()

    @contextmanager
    def putting(self) -> Iterator[None]:
        """While a put waits for its holders, and a little longer, other copies wait."""
        self._puts += 1
        try:
            yield
        finally:
            self._puts -= 1
            self.use()

    def owe(self, sources: Iterable[PeerId]) -> None:
        """These have copies to give once all is quiet."""
        self._sources |= set(sources)
        self._look_again()

    def _look_again(self) -> None:
        if self._quiet is None:
            self._quiet = asyncio.get_running_loop().call_later(QUIET_S, self._perhaps_quiet)

    def _perhaps_quiet(self) -> None:
        self._quiet = None
        if self.later_after_s:
            self._look_again()
            return
        sources, self._sources = self._sources, set()
        if sources:
            self._waking = asyncio.ensure_future(self._wake(sources))


def _now() -> float:
    return asyncio.get_running_loop().time()
