"""What is known of peers and copies beside their orders: used by the care of packs alone."""

from datetime import timedelta
from typing import Any

from sqlalchemy import Row, func, select

from tesra.db.engine import Tx
from tesra.drive.peers.repository import REACHABLE_S, pack_copies, pack_trees, storage_peers


class CareRepository:
    """Statements over many packs at once."""

    async def peer_rows(self, tx: Tx) -> list[Row[Any]]:
        """All peers, with ``copies``, ``used_bytes`` and whether they are ``reachable``."""
        held = (
            select(
                pack_copies.c.peer_id,
                func.count().label("copies"),
                func.sum(pack_trees.c.size_bytes).label("used_bytes"),
            )
            .join(pack_trees, pack_trees.c.pack_id == pack_copies.c.pack_id)
            .where(pack_copies.c.state == "held")
            .group_by(pack_copies.c.peer_id)
            .subquery()
        )
        silent = func.clock_timestamp() - storage_peers.c.last_seen
        statement = (
            select(
                storage_peers,
                (silent < timedelta(seconds=REACHABLE_S)).label("reachable"),
                func.coalesce(held.c.copies, 0).label("copies"),
                func.coalesce(held.c.used_bytes, 0).label("used_bytes"),
            )
            .outerjoin(held, held.c.peer_id == storage_peers.c.id)
            .order_by(storage_peers.c.name, storage_peers.c.id)
        )
        return list(await tx.execute(statement))
