"""Packs that a peer gets because somebody near it is about to read them.

They come on top of the copies that keep them safe, from all that have them, and serve the next
one who wants them; the care of packs drops what is too many when all is quiet.
"""

from collections.abc import Sequence

from tesra.db.engine import Tx
from tesra.db.notify import notify_all
from tesra.drive.peers.placement import GOOD
from tesra.drive.peers.repairing import MOST_SOURCES
from tesra.drive.peers.repository import PeerRepository
from tesra.kit.ids import PeerId


class Errands:
    """What readers ask of peers."""

    def __init__(self) -> None:
        self._repository = PeerRepository()

    async def bring(self, tx: Tx, peer: PeerId, pack_ids: Sequence[str]) -> list[str]:
        """Order what the peer lacks, as far as it has room; those that are on their way to it."""
        peers = {known.id: known for known in await self._repository.peers(tx)}
        mine = peers.get(peer)
        if mine is None or not mine.reachable or mine.draining:
            return []
        room = mine.capacity_bytes - mine.used_bytes
        trees = await self._repository.trees(tx, pack_ids)
        coming: list[str] = []
        topics: set[str] = set()
        for pack_id, tree in trees.items():
            copies = await self._repository.copies(tx, pack_id)
            states = {PeerId(row.peer_id): row.state for row in copies}
            sources = [
                source
                for source, state in states.items()
                if state == "held" and peers[source].reachable and peers[source].standing == GOOD
            ][:MOST_SOURCES]
            if states.get(peer) == "wanted":
                coming.append(pack_id)
            elif states.get(peer) in {None, "lost"} and sources and tree.size_bytes <= room:
                room -= tree.size_bytes
                await self._repository.set_copy(tx, pack_id, peer, "wanted", sources=sources)
                topics |= {f"peer:{source}" for source in sources}
                coming.append(pack_id)
        if topics:
            await notify_all(tx, sorted(topics))
        return coming
