"""The drive: receive packs, commit snapshots, name projects; reading is in ``drive.snapshots``.

What a snapshot refers to is on disk and indexed before the snapshot exists, and every id that
comes from outside is looked up within its owner's drive.
"""

from collections.abc import AsyncIterator

from tesra.crypto.aead import Sealer
from tesra.db.engine import Database, Tx
from tesra.drive.model import (
    MAIN_PURPOSE,
    DriveFull,
    Epoch,
    EpochNotWritable,
    EpochUnknown,
    PackRefused,
    ProjectUnknown,
    SnapshotIncomplete,
    SnapshotUntrue,
    StoredChunk,
    StoredProject,
    StoredSnapshot,
    check_project_name,
    check_room,
)
from tesra.drive.pack_store import IncomingPack, PackStore
from tesra.drive.snapshots import SnapshotReads
from tesra.kit.errors import Unavailable
from tesra.kit.ids import DriveId, EpochId, SnapshotId, UserId, new_id
from tesra.storage.format import new_keys
from tesra.storage.packing import MAX_PACK_BYTES, PackBroken
from tesra.wire.drive import (
    PackReceipt,
    Project,
    Quota,
    Snapshot,
    SnapshotCommit,
    UploadGrant,
)

SWEEP_AGE_S = 3600.0  # a pack without an index that is older was left by a crash


class PackSwept(Unavailable):
    """The pack was cleared away while it was being stored: send it again."""


class DriveService(SnapshotReads):
    """One for a server process; ``quota_bytes`` is what each drive may hold."""

    def __init__(
        self, database: Database, store: PackStore, sealer: Sealer, *, quota_bytes: int
    ) -> None:
        super().__init__(database, store, sealer)
        self._quota_bytes = quota_bytes

    async def open_upload(
        self, tx: Tx, owner: UserId, *, purpose: str | None = None
    ) -> UploadGrant:
        """Keys to write with. ``purpose`` (say, ``run:run_x``) names an epoch of its own."""
        drive = await self._repository.drive(tx, owner)
        epoch = await self._epoch_for(tx, drive.id, purpose or MAIN_PURPOSE)
        keys = self._unwrap(epoch)
        return UploadGrant(
            drive=drive.id,
            epoch=epoch.id,
            id_key=keys.id_key.hex(),
            data_key=keys.data_key.hex(),
            quota_left_bytes=max(0, self._quota_bytes - drive.used_bytes),
        )

    async def missing(
        self,
        tx: Tx,
        owner: UserId,
        epoch: EpochId,
        ids: list[str],
        *,
        purpose: str | None = None,
    ) -> list[str]:
        """Those of the chunks that the epoch lacks. ``purpose``, when given, must be the epoch's."""
        await self._own_epoch(tx, owner, epoch, purpose)
        stored = await self._repository.chunks(tx, epoch, [bytes.fromhex(i) for i in ids])
        return [chunk for chunk in ids if bytes.fromhex(chunk) not in stored]

    async def receive_pack(
        self,
        owner: UserId,
        epoch: EpochId,
        pack_id: str,
        stream: AsyncIterator[bytes],
        *,
        purpose: str | None = None,
    ) -> PackReceipt:
        """Store a pack: verified, on disk, then indexed; the same one again changes nothing."""
        try:
            async with self._database.begin() as tx:
                writable = await self._own_epoch(tx, owner, epoch, purpose)
                drive = await self._repository.drive(tx, owner)
                known = await self._repository.has_pack(tx, epoch, pack_id)
            if known:
                return self._receipt(pack_id, 0, drive.used_bytes)
            left = self._quota_bytes - drive.used_bytes
            limit = max(0, min(left, MAX_PACK_BYTES))
            async with self._store.receive(pack_id, stream, limit_bytes=limit) as incoming:
                return await self._take(writable, incoming)
        except PackRefused:
            # Over the quota or over the limit of all packs? The owner is told which.
            raise
        finally:
            async for _ in stream:
                pass  # the client hears an answer only after it has sent all
