"""The drive: receive packs, commit snapshots, name projects; reading is in ``drive.snapshots``.

What a snapshot refers to is on disk and indexed before the snapshot exists, and every id that
comes from outside is looked up within its owner's drive.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping

from tesra.crypto.aead import Sealer
from tesra.db.engine import Database, Tx
from tesra.drive.kept import names_of
from tesra.drive.model import (
    GO_BY_CLIENT,
    MAIN_PURPOSE,
    PRIVATE_PURPOSE,
    Drive,
    Epoch,
    EpochNotWritable,
    EpochUnknown,
    Hold,
    KeyNotHere,
    PackTooLarge,
    ProjectUnknown,
    SnapshotIncomplete,
    SnapshotUnknown,
    SnapshotUntrue,
    StoredChunk,
    StoredProject,
    StoredSnapshot,
    check_project_name,
    check_room,
)
from tesra.drive.pack_store import IncomingPack, PackStore
from tesra.drive.peers.errors import FilesLocked
from tesra.drive.peers.service import PeerService
from tesra.drive.proving import require_own_key
from tesra.drive.reading import EpochReader
from tesra.drive.snapshots import SnapshotReads
from tesra.kit.errors import Unavailable
from tesra.kit.ids import DriveId, EpochId, SnapshotId, UserId, new_id
from tesra.storage.format import EpochKeys, new_keys, seal_chunk
from tesra.storage.packing import MAX_PACK_BYTES, Pack, PackBuilder
from tesra.wire.drive import (
    PREFIX_BYTES,
    PackReceipt,
    Project,
    ProjectVersion,
    Quota,
    Snapshot,
    SnapshotCommit,
    UploadGrant,
)

SWEEP_AGE_S = 3600.0  # a pack without an index that is older was left by a crash


class PackSwept(Unavailable):
    """The pack was cleared away while it was being stored: send it again."""


_MOST_PREFIXES = 100_000  # of 4 bytes each: what a long upload is told at once


class DriveService(SnapshotReads):
    """One for a server process; ``quota_bytes`` is what each drive may hold."""

    def __init__(
        self,
        database: Database,
        store: PackStore,
        sealer: Sealer,
        *,
        quota_bytes: int,
        peers: PeerService | None = None,
    ) -> None:
        """``peers`` keep what the store keeps; without them the store's copy is the only one."""
        super().__init__(database, store, sealer)
        self.quota_bytes = quota_bytes
        self._peers = peers

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
            quota_left_bytes=max(0, self.quota_bytes - drive.used_bytes),
        )

    async def drive_of(self, tx: Tx, owner: UserId) -> Drive:
        """The owner's drive; made when it is asked for first."""
        return await self._repository.drive(tx, owner)

    async def reader(self, owner: UserId, epoch: EpochId) -> EpochReader:
        """The chunks of one of the owner's epochs."""
        async with self._database.begin() as tx:
            await self._own_epoch(tx, owner, epoch, None)
        return await self._reader(epoch)

    async def store_chunks(
        self, owner: UserId, epoch: EpochId, chunks: Mapping[bytes, bytes]
    ) -> None:
        """Keep chunks that the server itself has made (by their ids); those that are there are not."""
        async with self._database.begin() as tx:
            there = await self._at_hand(tx, epoch, list(chunks))
        fresh = {chunk_id: plain for chunk_id, plain in chunks.items() if chunk_id not in there}
        if fresh:
            keys = (await self._reader(epoch)).keys
            pack = await asyncio.to_thread(_packed, keys, fresh)
            await self.receive_pack(owner, epoch, pack.id, _pieces_of(pack))

    async def missing(
        self,
        tx: Tx,
        owner: UserId,
        epoch: EpochId,
        ids: list[str],
        *,
        purpose: str | None = None,
    ) -> list[str]:
        """Those of the chunks that the epoch lacks, or that no good copy is left of.

        ``purpose``, when given, must be the epoch's.
        """
        await self._own_epoch(tx, owner, epoch, purpose)
        stored = await self._at_hand(tx, epoch, [bytes.fromhex(i) for i in ids])
        return [chunk for chunk in ids if bytes.fromhex(chunk) not in stored]

    async def known(
        self, tx: Tx, owner: UserId, epoch: EpochId, *, purpose: str | None = None
    ) -> bytes | None:
        """The beginnings of the ids of the epoch's chunks, joined; None when they are too many."""
        await self._own_epoch(tx, owner, epoch, purpose)
        found = await self._repository.prefixes(tx, epoch, PREFIX_BYTES, limit=_MOST_PREFIXES + 1)
        return b"".join(found) if len(found) <= _MOST_PREFIXES else None

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
        async with self._database.begin() as tx:
            own = await self._own_epoch(tx, owner, epoch, purpose)
            drive = await self._repository.drive(tx, owner)
            known = await self._repository.has_pack(tx, epoch, pack_id)
        pieces = _Counted(stream)
        try:
            if known:
                return self._receipt(pack_id, 0, drive.used_bytes)
            limit = max(0, min(self.quota_bytes - drive.used_bytes, MAX_PACK_BYTES))
            async with self._store.receive(pack_id, pieces, limit_bytes=limit) as incoming:
                if own.wrapped_keys:  # a private drive's are not here
                    await asyncio.to_thread(require_own_key, self._unwrap(own), incoming)
                return await self._take(drive, epoch, incoming)
        except PackTooLarge:
            await pieces.drain()
            if pieces.size_bytes <= MAX_PACK_BYTES:
                check_room(drive.used_bytes, self.quota_bytes, pieces.size_bytes)
            raise
        finally:
            await pieces.drain()  # a client listens for the answer only after it has sent all

    async def check_complete(
        self, owner: UserId, commit: SnapshotCommit, *, purpose: str | None = None
    ) -> None:
        """Refuse a commit whose chunks are not all stored, or whose numbers are not its tree's.

        Reads the tree, so it is called outside of the domain's transaction, before it.
        """
        root, epoch = bytes.fromhex(commit.root), EpochId(commit.epoch)
        async with self._database.begin() as tx:
            await self._own_epoch(tx, owner, epoch, purpose)
            known = await self._repository.snapshot_of_root(tx, epoch, root)
        if known is not None:
            counts = (known.file_count, known.size_bytes)
        else:
            totals = await (await self._reader(epoch)).totals(root)
            counts = (totals.file_count, totals.size_bytes)
            await self.hold(epoch, root)
        if counts != (commit.file_count, commit.size_bytes):
            raise SnapshotUntrue(
                f"The tree has {counts[0]} files with {counts[1]} bytes, not {commit.file_count} "
                f"with {commit.size_bytes}."
            )

    async def hold(self, epoch: EpochId, root: bytes) -> None:
        """What the tree needs is no garbage: who is about to refer to it has a day for that.

        Raises ``SnapshotIncomplete`` when some of it has been swept already.
        """
        async with self._database.begin() as tx:
            if not await self._repository.has_marks(tx, epoch):
                return
        needed = list(await (await self._reader(epoch)).all_chunks(root))
        async with self._database.begin() as tx:
            found = await self._repository.needed_chunks(tx, epoch, needed)
        if len(found) < len(needed):
            raise SnapshotIncomplete

    async def lock_drive(self, tx: Tx, drive: DriveId) -> Drive:
        """Nothing is added to the drive until the transaction ends."""
        return await self._repository.lock_drive(tx, drive)

    async def give_back(self, tx: Tx, drive: DriveId, size_bytes: int) -> None:
        """So much of the quota is free again."""
        await self._repository.add_used(tx, drive, -size_bytes)

    async def commit_snapshot(
        self, tx: Tx, owner: UserId, commit: SnapshotCommit, *, kind: str
    ) -> Snapshot:
        """The snapshot of a commit that ``check_complete`` has passed; the same root, the same one."""
        epoch = await self._own_epoch(tx, owner, EpochId(commit.epoch), None)
        root = bytes.fromhex(commit.root)
        if not await self._repository.chunks(tx, epoch.id, [root]):
            raise SnapshotIncomplete
        stored = await self._repository.add_snapshot(
            tx,
            {
                "id": new_id("snp"),
                "drive_id": epoch.drive_id,
                "epoch_id": epoch.id,
                "root": root,
                "file_count": commit.file_count,
                "size_bytes": commit.size_bytes,
                "kind": kind,
            },
        )
        return _snapshot(stored)

    async def forget_upload(self, tx: Tx, owner: UserId, *, purpose: str) -> int:
        """Give back what an upload that was never committed took of the quota; its bytes.

        The files go with the next ``sweep_orphans``. Harmless when there is a snapshot.
        """
        epoch = await self._repository.epoch_of(tx, owner, purpose)
        if epoch is None:
            return 0
        freed_bytes = await self._repository.forget_packs(tx, epoch.id)
        if freed_bytes:
            await self._repository.add_used(tx, epoch.drive_id, -freed_bytes)
        return freed_bytes

    async def create_or_update_project(
        self, tx: Tx, owner: UserId, name: str, snapshot: Snapshot
    ) -> Project:
        """The project of that name with this snapshot as its head; ``unchanged`` when it was."""
        return await self.point_project(tx, owner, name, SnapshotId(snapshot.id))

    async def point_project(self, tx: Tx, owner: UserId, name: str, head: SnapshotId) -> Project:
        """The same, by the snapshot's id."""
        checked = check_project_name(name)
        found = await self._repository.snapshot(tx, head)
        if found is None or found[1] != owner:
            raise SnapshotUnknown
        made = await self._repository.add_project(tx, owner, checked, head)
        project = await self._project(tx, owner, checked, hold="to change")
        unchanged = not made and project.head.root == found[0].root
        if not made and not unchanged:
            await self._repository.move_head(tx, project.id, head)
            project = await self._project(tx, owner, checked)
        return _project(project, unchanged=unchanged)

    async def project(
        self, tx: Tx, owner: UserId, name_or_id: str, *, hold: Hold | None = None
    ) -> Project:
        """One of the owner's projects; ``hold`` it until the transaction ends."""
        return _project(await self._project(tx, owner, name_or_id, hold=hold))

    async def projects(
        self, tx: Tx, owner: UserId, *, cursor: str | None = None, limit: int = 50
    ) -> list[Project]:
        """The owner's projects, the newest first; ``cursor`` is the last id seen."""
        found = await self._repository.projects(tx, owner, after=cursor, limit=limit)
        return [_project(project) for project in found]

    async def versions(
        self, tx: Tx, owner: UserId, project: str, *, before: int | None = None, limit: int = 50
    ) -> list[ProjectVersion]:
        """What one of the owner's projects was at each import, the newest first."""
        known = await self._project(tx, owner, project)
        rows = await self._repository.versions(tx, known.id, before=before, limit=limit)
        return [
            ProjectVersion(
                number=row.number,
                snapshot=row.id,
                file_count=row.file_count,
                size_bytes=row.size_bytes,
                added_at=row.added_at,
            )
            for row in rows
        ]

    async def _require_unlocked(self, reader: EpochReader, root: bytes, packs: set[str]) -> None:
        if self._peers is None:
            return
        async with self._database.begin() as tx:
            locked = await self._peers.locked(tx, packs)
        if locked:
            names = await names_of(reader, root, locked)
            raise FilesLocked(
                f"Locked until a good copy comes back, since none is left: {names}.",
                way_out="Everything else can be fetched by its path; who still has these can put them "
                "again. The operator has been alarmed.",
            )

    async def quota(self, tx: Tx, owner: UserId) -> Quota:
        """How much of the quota the owner's packs take."""
        drive = await self._repository.drive(tx, owner)
        return Quota(used_bytes=drive.used_bytes, quota_bytes=self.quota_bytes)

    async def set_copies(self, tx: Tx, owner: UserId, copies: int) -> None:
        """From now on there shall be so many of each of the owner's packs; repair sees to it."""
        drive = await self._repository.drive(tx, owner)
        await self._repository.set_copies(tx, drive.id, copies)

    async def sweep_orphans(self, *, age_s: float = SWEEP_AGE_S) -> int:
        """Clear away what a crash between disk and index left; gives the number of packs."""
        swept = 0
        for pack_id in await self._store.older_than(age_s):
            async with self._database.begin() as tx:
                await self._repository.lock_pack(tx, pack_id)
                if await self._repository.pack_is_indexed(tx, pack_id):
                    continue
                if self._peers is None or not await self._peers.release(tx, [pack_id]):
                    await self._store.discard(pack_id)
                swept += 1
        return swept

    async def _take(self, drive: Drive, epoch: EpochId, incoming: IncomingPack) -> PackReceipt:
        """Keep a verified pack and index it; one that brings nothing new is not kept.

        What no good copy was left of is read from this one from now on.
        """
        ids = [entry.chunk_id for entry in incoming.entries]
        async with self._database.begin() as tx:
            stored = await self._repository.chunks(tx, epoch, ids)
            locked = await self._locked(tx, stored)
        stored = {i: chunk for i, chunk in stored.items() if chunk.pack_id not in locked}
        if len(stored) < len(ids):
            await self._store.keep(incoming)
            if self._peers is not None:
                await self._peers.secure(incoming.tree, goal=drive.copies)
        async with self._database.begin() as tx:
            drive = await self._repository.lock_drive(tx, drive.id)
            await self._repository.lock_pack(tx, incoming.pack_id)
            again = await self._repository.has_pack(tx, epoch, incoming.pack_id)
            if again or len(stored) == len(ids):
                return self._receipt(incoming.pack_id, 0, drive.used_bytes)
            check_room(drive.used_bytes, self.quota_bytes, incoming.size_bytes)
            await self._repository.unmark(tx, epoch, ids)  # those that are stored elsewhere
            released = self._peers is not None and await self._peers.is_released(
                tx, incoming.pack_id
            )
            if released or not await self._store.holds(incoming.pack_id):
                raise PackSwept
            await self._repository.add_pack(
                tx,
                epoch,
                incoming.pack_id,
                size_bytes=incoming.size_bytes,
                stored=[
                    StoredChunk(e.chunk_id, incoming.pack_id, e.offset, e.length, e.plain_size)
                    for e in incoming.entries
                ],
                instead_of=locked,
            )
            await self._repository.add_used(tx, drive.id, incoming.size_bytes)
        used = drive.used_bytes + incoming.size_bytes
        return self._receipt(incoming.pack_id, incoming.size_bytes, used)

    async def _at_hand(
        self, tx: Tx, epoch: EpochId, ids: list[bytes]
    ) -> Mapping[bytes, StoredChunk]:
        """Those of the chunks that are stored and can be read again, now or later."""
        stored = await self._repository.needed_chunks(tx, epoch, ids)
        locked = await self._locked(tx, stored)
        return {i: chunk for i, chunk in stored.items() if chunk.pack_id not in locked}

    async def _locked(self, tx: Tx, stored: Mapping[bytes, StoredChunk]) -> set[str]:
        """The packs of these chunks that no good copy is left of."""
        packs = {chunk.pack_id for chunk in stored.values()}
        return await self._peers.locked(tx, packs) if self._peers and packs else set()

    async def _epoch_for(self, tx: Tx, drive: DriveId, purpose: str) -> Epoch:
        found = await self._repository.epoch_for(tx, drive, purpose)
        if found is None:
            keys = new_keys(new_id("epo"))
            fresh = Epoch(EpochId(keys.id), drive, purpose, self._wrap(keys))
            await self._repository.add_epoch(tx, fresh)
            found = await self._repository.epoch_for(tx, drive, purpose)
        assert found is not None  # either ours or the one that was first
        return found

    async def _own_epoch(self, tx: Tx, owner: UserId, epoch: EpochId, purpose: str | None) -> Epoch:
        found = await self._repository.epoch(tx, epoch)
        if found is None or found[1] != owner:
            raise EpochUnknown
        if purpose is not None and found[0].purpose != purpose:
            if found[0].purpose.startswith(PRIVATE_PURPOSE):
                raise KeyNotHere(way_out=GO_BY_CLIENT)
            raise EpochNotWritable
        return found[0]

    async def _project(
        self, tx: Tx, owner: UserId, name_or_id: str, *, hold: Hold | None = None
    ) -> StoredProject:
        found = await self._repository.project(tx, owner, name_or_id, hold=hold)
        if found is None:
            raise ProjectUnknown(
                f"There is no project '{name_or_id[:128]}'.",
                way_out="`tesra projects` lists yours; `tesra import` makes one.",
            )
        return found

    def _receipt(self, pack_id: str, new_bytes: int, used_bytes: int) -> PackReceipt:
        left = max(0, self.quota_bytes - used_bytes)
        return PackReceipt(pack=pack_id, new_bytes=new_bytes, quota_left_bytes=left)


def _packed(keys: EpochKeys, chunks: Mapping[bytes, bytes]) -> Pack:
    builder = PackBuilder()
    for chunk_id, plain in chunks.items():
        builder.add(seal_chunk(keys.chunk_key(chunk_id), chunk_id, plain))
    return builder.finish()


async def _pieces_of(pack: Pack) -> AsyncIterator[bytes]:
    for piece in pack.pieces:
        yield piece


class _Counted:
    """A stream that knows how much of it has come, and can be read to its end unheeded."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self.size_bytes = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await anext(self._stream)
        self.size_bytes += len(piece)
        return piece

    async def drain(self) -> None:
        async for _ in self:
            if self.size_bytes > MAX_PACK_BYTES:
                return


def _snapshot(stored: StoredSnapshot) -> Snapshot:
    return Snapshot(
        id=stored.id,
        root=stored.root.hex(),
        file_count=stored.file_count,
        size_bytes=stored.size_bytes,
        created_at=stored.created_at,
    )


def _project(stored: StoredProject, *, unchanged: bool = False) -> Project:
    return Project(
        id=stored.id,
        name=stored.name,
        snapshot=stored.head.id,
        snapshots=stored.snapshots,
        file_count=stored.head.file_count,
        size_bytes=stored.head.size_bytes,
        created_at=stored.created_at,
        updated_at=stored.updated_at,
        unchanged=unchanged,
    )
