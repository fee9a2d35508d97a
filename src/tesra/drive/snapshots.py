"""The reading half of the drive: snapshots, their plans, files and archives, packs.

``owner=None`` is for callers that have checked the right themselves; otherwise a snapshot of
another's drive is as unknown as one that never was.
"""

from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass

from tesra.crypto.aead import Sealer
from tesra.db.engine import Database
from tesra.drive.archive import zip_stream
from tesra.drive.model import (
    GO_BY_CLIENT,
    Epoch,
    FileUnknown,
    KeyNotHere,
    PackUnknown,
    SnapshotUnknown,
    StoredSnapshot,
)
from tesra.drive.pack_store import PackStore
from tesra.drive.reading import EpochReader
from tesra.drive.repository import DriveRepository
from tesra.drive.sampling import Sample, take_sample
from tesra.kit.ids import EpochId, SnapshotId, UserId
from tesra.storage.format import KEY_BYTES, EpochKeys
from tesra.storage.tree import Entry, File, Folder, Link
from tesra.wire.drive import ChunkAt, FileEntry, ReadPlan


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file of a snapshot, ready to be read from any position."""

    name: str
    size_bytes: int
    file: File
    reader: EpochReader

    def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes ``start`` up to (not with) ``end``."""
        return self.reader.content(self.file, start, end)


class SnapshotReads:
    """What can be read; ``DriveService`` adds what can be written."""

    def __init__(self, database: Database, store: PackStore, sealer: Sealer) -> None:
        self._database = database
        self._store = store
        self._sealer = sealer
        self._repository = DriveRepository()

    async def snapshot(
        self, snapshot_id: SnapshotId, *, owner: UserId | None = None
    ) -> StoredSnapshot:
        """One snapshot; raises ``SnapshotUnknown``, also for another's."""
        async with self._database.begin() as tx:
            found = await self._repository.snapshot(tx, snapshot_id)
        if found is None or (owner is not None and found[1] != owner):
            raise SnapshotUnknown
        return found[0]

    async def plan(self, owner: UserId, snapshot_id: SnapshotId) -> ReadPlan:
        """All that the owner's client needs to read a snapshot."""
        snapshot = await self.snapshot(snapshot_id, owner=owner)
        return await self._plan(snapshot, with_id_key=True)

    async def plan_for_site(self, snapshot_id: SnapshotId) -> ReadPlan:
        """The same for a node that trains on it: the keys of these chunks and no other key."""
        return await self._plan(await self.snapshot(snapshot_id), with_id_key=False)

    async def list_files(
        self, snapshot_id: SnapshotId, *, owner: UserId | None = None
    ) -> list[FileEntry]:
        """Every file, folder and link, each folder before what it holds."""
        snapshot = await self.snapshot(snapshot_id, owner=owner)
        reader = await self._reader(snapshot.epoch_id)
        return [_file_entry(parts, entry) async for parts, entry in reader.walk(snapshot.root)]

    async def files_page(
        self, owner: UserId, snapshot_id: SnapshotId, *, after: str | None, limit: int
    ) -> list[FileEntry]:
        """Up to ``limit`` entries behind the path ``after``, in the order of ``list_files``."""
        snapshot = await self.snapshot(snapshot_id, owner=owner)
        reader = await self._reader(snapshot.epoch_id)
        page: list[FileEntry] = []
        behind = _order(after.split("/")) if after is not None else None
        async for parts, entry in reader.walk(snapshot.root):
            if behind is not None and _order(parts) <= behind:
                continue
            page.append(_file_entry(parts, entry))
            if len(page) == limit:
                break
        return page

    async def sample(
        self,
        snapshot_id: SnapshotId,
        wanted: Callable[[str, int], bool],
        *,
        most_files: int,
        most_bytes: int,
        owner: UserId | None = None,
    ) -> Sample:
        """All paths, and the content of the files that ``wanted(path, size)`` chooses, within limits."""
        snapshot = await self.snapshot(snapshot_id, owner=owner)
        reader = await self._reader(snapshot.epoch_id)
        return await take_sample(
            reader, snapshot.root, wanted, most_files=most_files, most_bytes=most_bytes
        )

    async def find_file(
        self, snapshot_id: SnapshotId, path: str, *, owner: UserId | None = None
    ) -> OpenFile:
        """The file at a path; raises ``FileUnknown`` for folders, links and nothing."""
        snapshot = await self.snapshot(snapshot_id, owner=owner)
        reader = await self._reader(snapshot.epoch_id)
        entry = await reader.find(snapshot.root, path)
        if not isinstance(entry, File):
            raise FileUnknown(f"'{path[:200]}' is a folder or a link, not a file.")
        return OpenFile(entry.name, entry.size, entry, reader)

    async def open_file(
        self,
        snapshot_id: SnapshotId,
        path: str,
        *,
        start: int = 0,
        end: int | None = None,
        owner: UserId | None = None,
    ) -> AsyncIterator[bytes]:
        """Bytes ``start`` up to (not with) ``end`` of a file, in bounded memory."""
        found = await self.find_file(snapshot_id, path, owner=owner)
        return found.read(start, found.size_bytes if end is None else min(end, found.size_bytes))

    async def archive(
        self, snapshot_id: SnapshotId, *, owner: UserId | None = None
    ) -> AsyncIterator[bytes]:
        """The snapshot as a zip, made while it is read."""
        snapshot = await self.snapshot(snapshot_id, owner=owner)
        return zip_stream(await self._reader(snapshot.epoch_id), snapshot.root)

    async def pack_size(
        self, pack_id: str, *, owner: UserId, readable: Collection[SnapshotId] | None = None
    ) -> int:
        """A pack's size, for those who may read it: its owner, or readers of a snapshot in it."""
        async with self._database.begin() as tx:
            if readable is None:
                allowed = await self._repository.pack_of_owner(tx, owner, pack_id)
            else:
                allowed = await self._repository.pack_of_snapshots(tx, readable, pack_id)
        if not allowed:
            raise PackUnknown
        return await self._store.size(pack_id)

    async def mend_pack(self, pack_id: str, *, doubt: bool) -> None:
        """Look at the pack and get a good copy, if somebody was given what it does not hold."""
        if doubt:
            await self._store.mend(pack_id)

    def read_pack(self, pack_id: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes ``start`` up to (not with) ``end`` of a pack; ask ``pack_size`` for the right."""
        return self._store.stream(pack_id, start, end)

    async def _plan(self, snapshot: StoredSnapshot, *, with_id_key: bool) -> ReadPlan:
        return await self.plan_of(
            snapshot.epoch_id, snapshot.root, name=snapshot.id, with_id_key=with_id_key
        )

    async def plan_of(
        self, epoch: EpochId, root: bytes, *, name: str, with_id_key: bool = True
    ) -> ReadPlan:
        """The plan of a tree of an epoch, for callers that have checked the right themselves."""
        reader = await self._reader(epoch)
        keys = await self._keys(epoch)
        found = await reader.all_chunks(root)
        await self._require_unlocked(reader, root, {chunk.pack_id for chunk in found.values()})
        return ReadPlan(
            snapshot=name,
            root=root.hex(),
            id_key=keys.id_key.hex() if with_id_key else None,
            chunks={
                chunk.chunk_id.hex(): ChunkAt(
                    pack=chunk.pack_id,
                    offset=chunk.offset,
                    length=chunk.length,
                    size=chunk.plain_size,
                    key=keys.chunk_key(chunk.chunk_id).hex(),
                )
                for chunk in found.values()
            },
        )

    async def _require_unlocked(self, reader: EpochReader, root: bytes, packs: set[str]) -> None:
        """Where copies are kept track of, files without a good one are refused by name."""

    async def _reader(self, epoch: EpochId) -> EpochReader:
        keys = await self._keys(epoch)
        return EpochReader(self._database, self._repository, self._store, keys)

    async def _keys(self, epoch_id: EpochId) -> EpochKeys:
        async with self._database.begin() as tx:
            found = await self._repository.epoch(tx, epoch_id)
        assert found is not None  # a snapshot's epoch is never gone
        return self._unwrap(found[0])

    def _wrap(self, keys: EpochKeys) -> bytes:
        return self._sealer.seal(keys.id_key + keys.data_key, _wrapping_context(keys.id))

    def _unwrap(self, epoch: Epoch) -> EpochKeys:
        if not epoch.wrapped_keys:
            raise KeyNotHere(way_out=GO_BY_CLIENT)
        keys = self._sealer.open(epoch.wrapped_keys, _wrapping_context(epoch.id))
        return EpochKeys(epoch.id, keys[:KEY_BYTES], keys[KEY_BYTES:])


def _wrapping_context(epoch_id: str) -> bytes:
    return b"epoch:" + epoch_id.encode()


def _order(parts: Collection[str]) -> list[bytes]:
    """Paths sort by the bytes of their parts, as a walk gives them."""
    return [part.encode() for part in parts]


def _file_entry(parts: tuple[str, ...], entry: Entry) -> FileEntry:
    path = "/".join(parts)
    match entry:
        case File():
            return FileEntry(path=path, kind="file", size_bytes=entry.size)
        case Folder():
            return FileEntry(path=path, kind="dir", size_bytes=0)
        case Link():
            return FileEntry(path=path, kind="link", size_bytes=0)
