"""The care of packs: who holds them, how well, and what has to be done about it."""

from typing import Any

from sqlalchemy import Row

from tesra.db.engine import Database, Tx
from tesra.drive.peers.care_repository import CareRepository
from tesra.wire.storage import StoragePeer


class CareService:
    """One for a server process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._repository = CareRepository()

    async def peers(self, tx: Tx) -> list[StoragePeer]:
        """All that ever joined, by name."""
        return [_shown(row) for row in await self._repository.peer_rows(tx)]


def _shown(row: Row[Any]) -> StoragePeer:
    return StoragePeer(
        id=row.id,
        name=row.name,
        state="online" if row.reachable else "offline",
        owner=row.owner,
        machine=row.machine,
        gateway=row.gateway,
        draining=row.draining,
        capacity_bytes=row.capacity_bytes,
        used_bytes=int(row.used_bytes),
        copies=row.copies,
        last_seen=row.last_seen,
    )
