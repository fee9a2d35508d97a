"""A tree editor over a drive's stored chunks, for use in a thread; what it makes is stored after.

Reading goes through the event loop that the bench was made in; new nodes are kept until
``store`` hands them over in packs.
"""

import asyncio

from tesra.drive.reading import EpochReader
from tesra.drive.service import DriveService
from tesra.kit.ids import EpochId, UserId
from tesra.storage.editing import TreeEditor


class Workbench:
    """One piece of work on one drive's tree."""

    def __init__(
        self,
        drive: DriveService,
        owner: UserId,
        epoch: EpochId,
        reader: EpochReader,
        *,
        ends: dict[bytes, bytes] | None = None,
    ) -> None:
        self._drive = drive
        self._owner = owner
        self._epoch = epoch
        self._reader = reader
        self._fresh: dict[bytes, bytes] = {}
        self._loop = asyncio.get_running_loop()
        self.editor = TreeEditor(self._read, self._keep, ends=ends)

    async def store(self) -> None:
        """What was made is in the drive when this returns."""
        await self._drive.store_chunks(self._owner, self._epoch, self._fresh)

    def _read(self, node_id: bytes) -> bytes:
        fresh = self._fresh.get(node_id)
        if fresh is not None:
            return fresh
        reading = asyncio.run_coroutine_threadsafe(self._reader.read([node_id]), self._loop)
        return reading.result()[node_id]

    def _keep(self, plain: bytes) -> bytes:
        node_id = self._reader.keys.chunk_id(plain)
        self._fresh[node_id] = plain
        return node_id
