"""Projects that come to the server whole (an uploaded archive, a cloned repository).

The server is then its own client: the same selection, chunking and packing as on a user's
machine, in a worker thread, handed to the same service.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tesra.db.engine import Database
from tesra.drive.aside import aside, scratch
from tesra.drive.model import check_project_name
from tesra.drive.service import DriveService
from tesra.kit.ids import EpochId, UserId
from tesra.storage.archives import Limits, unpack
from tesra.storage.format import EpochKeys
from tesra.storage.packing import Pack
from tesra.storage.selection import select_files
from tesra.storage.sending import SERVER_PACE, ChunkSender
from tesra.storage.tree import Entry
from tesra.storage.uploading import UploadedTree, send_folder
from tesra.wire.drive import Project, SnapshotCommit, UploadGrant

Result = TypeVar("Result")
Send = Callable[[ChunkSender], UploadedTree]


class Intake:
    """Brings folders of the server's own disk into their owner's drive."""

    def __init__(self, database: Database, drive: DriveService) -> None:
        self._database = database
        self._drive = drive

    async def archive(self, owner: UserId, archive: Path, *, name: str, within: Path) -> Project:
        """Unpack (within the owner's quota, checked) and store; raises ``ArchiveRefused``.

        ``within``: the folder to unpack in.
        """
        checked = check_project_name(name)
        async with self._database.begin() as tx:
            quota = await self._drive.quota(tx, owner)
        limits = Limits(total_bytes=min(Limits().total_bytes, 2 * quota.quota_bytes))
        async with scratch(within) as place:
            root = await asyncio.to_thread(unpack, archive, place / "content", limits)
            return await self.folder(owner, root, name=checked)

    async def folder(self, owner: UserId, root: Path, *, name: str) -> Project:
        """Store what belongs to the project and make it the project's head."""
        checked = check_project_name(name)
        selected = await asyncio.to_thread(select_files, root)
        commit = await self.tree(owner, root, files=selected.files)
        await self._drive.check_complete(owner, commit)
        async with self._database.begin() as tx:
            snapshot = await self._drive.commit_snapshot(tx, owner, commit, kind="project")
            return await self._drive.create_or_update_project(tx, owner, checked, snapshot)

    async def entry(self, owner: UserId, file: Path) -> Entry:
        """Store one file; how it stands in a tree, under its name."""
        tree = await self.tree(owner, file.parent, files=[file])
        reader = await self._drive.reader(owner, EpochId(tree.epoch))
        return await anext(reader.entries(bytes.fromhex(tree.root)))

    async def tree(
        self, owner: UserId, root: Path, *, files: Sequence[Path] | None = None
    ) -> SnapshotCommit:
        """Store a folder, all of it or these files; what to commit."""
        return await self.stored(owner, lambda sender: send_folder(sender, root, files=files))

    async def stored(self, owner: UserId, send: Send) -> SnapshotCommit:
        """Store what ``send`` gives to the sender, in a thread; what to commit."""
        async with self._database.begin() as tx:
            grant = await self._drive.open_upload(tx, owner)
        loop = asyncio.get_running_loop()
        stored = await aside(lambda: self._upload(owner, grant, send, loop))
        return SnapshotCommit(
            epoch=grant.epoch,
            root=stored.root.hex(),
            file_count=stored.file_count,
            size_bytes=stored.size_bytes,
        )

    def _upload(
        self,
        owner: UserId,
        grant: UploadGrant,
        send: Send,
        loop: asyncio.AbstractEventLoop,
    ) -> UploadedTree:
        keys = EpochKeys(grant.epoch, bytes.fromhex(grant.id_key), bytes.fromhex(grant.data_key))
        sink = _ServiceSink(self._database, self._drive, owner, EpochId(grant.epoch), loop)
        with ChunkSender(sink, keys, pace=SERVER_PACE) as sender:
            return send(sender)


class _ServiceSink:
    """The service as upload threads see it."""

    def __init__(
        self,
        database: Database,
        drive: DriveService,
        owner: UserId,
        epoch: EpochId,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._database = database
        self._drive = drive
        self._owner = owner
        self._epoch = epoch
        self._loop = loop

    def missing(self, ids: list[bytes]) -> set[bytes]:
        return self._wait(self._missing([chunk.hex() for chunk in ids]))

    def put_pack(self, pack: Pack) -> None:
        stream = _pieces_of(pack)
        self._wait(self._drive.receive_pack(self._owner, self._epoch, pack.id, stream))

    async def _missing(self, ids: list[str]) -> set[bytes]:
        async with self._database.begin() as tx:
            missing = await self._drive.missing(tx, self._owner, self._epoch, ids)
        return {bytes.fromhex(chunk) for chunk in missing}

    def _wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _pieces_of(pack: Pack) -> AsyncIterator[bytes]:
    for piece in pack.pieces:
        yield piece
