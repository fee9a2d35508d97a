"""The drive that people use: one tree, changed by moving its head, every state of it kept.

A change reads and writes the few nodes that it concerns, in a thread, and moves the head by
compare and swap; who comes too late begins again on what is there now, so nothing of anybody's
is lost. Content moves only when somebody puts it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TypeVar
from weakref import WeakValueDictionary

from tesra.db.engine import Database, Tx
from tesra.db.notify import notify
from tesra.drive.aside import aside
from tesra.drive.files.changing import Batch, SomethingThere, words_of
from tesra.drive.files.counting import Use, UseCounter
from tesra.drive.files.repository import FileRepository, Thrown, Version
from tesra.drive.files.workbench import Workbench
from tesra.drive.model import MAIN_PURPOSE, Drive, StoredSnapshot
from tesra.drive.reading import EpochReader
from tesra.drive.service import DriveService
from tesra.drive.snapshots import OpenFile
from tesra.kit.errors import Conflict, Invalid, NotFound
from tesra.kit.ids import EpochId, SnapshotId, UserId, new_id
from tesra.storage.editing import (
    NothingThere,
    Parts,
    TreeEditor,
    parse_path,
    show_path,
)
from tesra.storage.tree import Entry, File, Folder
from tesra.wire.drive import ReadPlan, SnapshotCommit
from tesra.wire.files import Changes, PutTree, Restore

_TRIES = 8

Edit = Callable[[TreeEditor, bytes], bytes]
Seen = TypeVar("Seen")


class VersionUnknown(NotFound):
    """The drive has no such version, or not any more."""


class NotThrownAway(NotFound):
    """This is not in the trash."""


class NotAFolder(Invalid):
    """Only a folder comes as an archive: this is a file or a link."""


class TooBusy(Conflict):
    """Others changed the drive again and again at the same moment."""


@dataclass(frozen=True, slots=True)
class Landed:
    """The head after a change; ``renamed``: what got another name, because both had changed it, or
    because something stands where it was restored to."""

    version: Version
    renamed: tuple[tuple[Parts, Parts], ...] = ()


Also = Callable[[Tx, Landed], Awaitable[None]]  # done with the change or not at all


@dataclass(slots=True)
class _Made:
    """What an edit did besides: what it threw away, and what stands beside where it was to stand."""

    thrown: Sequence[Parts] = ()
    beside: Sequence[tuple[Parts, Parts]] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """An entry and where it stands."""

    path: Parts
    entry: Entry


@dataclass(frozen=True, slots=True)
class Pinned:
    """What stood at a path: ``root`` is a folder's own, or that of one which holds just the file."""

    found: Found
    at: Version
    root: bytes


class FileService:
    """Paths of drives that the server has the keys of."""

    def __init__(self, database: Database, drive: DriveService) -> None:
        self._database = database
        self._drive = drive
        self._repository = FileRepository()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._counter = UseCounter()
        self._ends: dict[bytes, bytes] = {}  # nodes never change: what is known of them stays

    async def head(self, owner: UserId) -> Version:
        """The tree as it is now; an empty one is made for who never had any."""
        async with self._database.begin() as tx:
            drive = await self._drive.drive_of(tx, owner)
            found = await self._repository.head(tx, drive.id)
        return found if found is not None else await self._begin(owner, drive)

    async def listing(
        self,
        owner: UserId,
        path: str,
        *,
        after: str | None = None,
        limit: int = 200,
        version: int | None = None,
    ) -> list[Found]:
        """What a folder holds, sorted by the bytes of the names; a file is its own listing."""
        parts, at = parse_path(path), await self._at(owner, version)

        def look(editor: TreeEditor) -> list[Found]:
            entry = editor.require(at.root, parts)
            if not isinstance(entry, Folder):
                return [Found(parts, entry)]
            entries = islice(editor.listing(entry.tree, after=after), limit)
            return [Found((*parts, below.name), below) for below in entries]

        return await self._reading(owner, at, look)

    async def find(self, owner: UserId, path: str, *, version: int | None = None) -> Found:
        """What stands at a path; raises ``NothingThere``."""
        return await self._found(owner, await self._at(owner, version), path)

    async def open(self, owner: UserId, path: str, *, version: int | None = None) -> OpenFile:
        """The file at a path, ready to be read from any position."""
        at = await self._at(owner, version)
        found = await self._found(owner, at, path)
        if not isinstance(found.entry, File):
            raise NothingThere(f"'{show_path(found.path)}' is a folder or a link, not a file.")
        reader = await self._drive.reader(owner, at.epoch)
        return OpenFile(found.entry.name, found.entry.size, found.entry, reader)

    async def folder(
        self, owner: UserId, path: str, *, version: int | None = None
    ) -> tuple[str, EpochReader, bytes]:
        """A folder's name, reader and root, to be sent as one file."""
        at = await self._at(owner, version)
        found = await self._found(owner, at, path)
        if not isinstance(found.entry, Folder):
            raise NotAFolder(way_out="Download the file itself.")
        name = found.path[-1] if found.path else "drive"
        return name, await self._drive.reader(owner, at.epoch), found.entry.tree

    async def pin(self, owner: UserId, path: str) -> Pinned:
        """What stands at a path now, safe for a day from the collector: refer to it by then."""
        at = await self._at(owner, None)
        found = await self._found(owner, at, path)
        root = await self._root_of(owner, at, found)
        await self._drive.hold(at.epoch, root)
        return Pinned(found, at, root)

    async def plan(self, owner: UserId, path: str, *, version: int | None = None) -> ReadPlan:
        """All that the owner's client needs to read what stands at a path; a file comes as a
        folder that holds just it."""
        at = await self._at(owner, version)
        found = await self._found(owner, at, path)
        root = await self._root_of(owner, at, found)
        return await self._drive.plan_of(at.epoch, root, name=f"version {at.number}")

    async def freeze(
        self, owner: UserId, path: str, *, version: int | None = None
    ) -> StoredSnapshot:
        """A snapshot of what stands at a path; a file comes as a folder that holds just it."""
        at = await self._at(owner, version)
        found = await self._found(owner, at, path)
        root = await self._root_of(owner, at, found)
        await self._drive.hold(at.epoch, root)
        totals = await (await self._drive.reader(owner, at.epoch)).totals(root)
        commit = SnapshotCommit(
            epoch=at.epoch,
            root=root.hex(),
            file_count=totals.file_count,
            size_bytes=totals.size_bytes,
        )
        async with self._database.begin() as tx:
            made = await self._drive.commit_snapshot(tx, owner, commit, kind="data")
        return await self._drive.snapshot(SnapshotId(made.id), owner=owner)

    async def walk(
        self, owner: UserId, path: str, *, version: int | None = None
    ) -> AsyncIterator[Found]:
        """Everything below a path, each folder before what it holds."""
        at = await self._at(owner, version)
        found = await self._found(owner, at, path)
        if not isinstance(found.entry, Folder):
            yield found
            return
        reader = await self._drive.reader(owner, at.epoch)
        async for parts, entry in reader.walk(found.entry.tree):
            yield Found((*found.path, *parts), entry)

    async def use(self, owner: UserId, path: str, *, version: int | None = None) -> Use:
        """How much stands at and below a path."""
        at = await self._at(owner, version)
        entry = (await self._found(owner, at, path)).entry
        return await self._reading(owner, at, lambda editor: self._counter.count(editor, entry))

    async def change(self, owner: UserId, wanted: Changes, *, also: Also | None = None) -> Landed:
        """Apply these changes, all or none."""
        earlier = {
            change.version: await self._at(owner, change.version)
            for change in wanted.changes
            if isinstance(change, Restore)
        }
        for at in earlier.values():
            await self._drive.hold(at.epoch, at.root)
        for change in wanted.changes:
            if isinstance(change, PutTree):
                await self._drive.check_complete(owner, change.tree, purpose=MAIN_PURPOSE)
        roots = {number: at.root for number, at in earlier.items()}
        made = _Made()

        def edit(editor: TreeEditor, root: bytes) -> bytes:
            batch = Batch(editor, root, roots)
            changed = batch.apply(wanted.changes)
            made.thrown, made.beside = batch.thrown, batch.beside
            return changed

        return await self._land(owner, edit, words_of(wanted.changes), made=made, also=also)

    async def commit(self, owner: UserId, base: int, tree: SnapshotCommit, *, words: str) -> Landed:
        """A whole tree by a client that began at version ``base``; merged with what came since."""
        await self._drive.check_complete(owner, tree, purpose=MAIN_PURPOSE)
        began = await self._at(owner, base)
        root = bytes.fromhex(tree.root)
        made = _Made()

        def edit(editor: TreeEditor, now: bytes) -> bytes:
            made.beside = ()
            if now == began.root:
                return root
            merged = editor.merge(began.root, now, root)
            made.beside = merged.renamed
            return merged.root

        return await self._land(owner, edit, words, made=made)

    async def put(
        self,
        owner: UserId,
        changes: dict[Parts, Entry],
        *,
        words: str,
        also: Also | None = None,
    ) -> Landed:
        """Entries whose content is stored already, each at its path; none of them replaces a folder."""

        def edit(editor: TreeEditor, root: bytes) -> bytes:
            for path in changes:
                if isinstance(editor.lookup(root, path), Folder):
                    raise SomethingThere(
                        f"There is a folder at '{show_path(path)}'.",
                        way_out="Put it into the folder under a name of its own, or move that.",
                    )
            return editor.edit(root, changes)

        return await self._land(owner, edit, words[:200], also=also)

    async def look(self, owner: UserId, at: Version, look: Callable[[TreeEditor], Seen]) -> Seen:
        """What ``look`` finds with an editor of that version's tree, in a thread of its own."""
        return await self._reading(owner, at, look)

    async def versions(
        self, owner: UserId, *, before: int | None = None, limit: int = 50
    ) -> list[Version]:
        """The drive's history, the newest first."""
        async with self._database.begin() as tx:
            drive = await self._drive.drive_of(tx, owner)
            return await self._repository.versions(tx, drive.id, before=before, limit=limit)

    async def trash(
        self, owner: UserId, *, before: str | None = None, limit: int = 50
    ) -> list[Thrown]:
        """What was thrown away, the last first."""
        async with self._database.begin() as tx:
            drive = await self._drive.drive_of(tx, owner)
            return await self._repository.trash(tx, drive.id, before=before, limit=limit)

    async def restore_from_trash(
        self, owner: UserId, id_: str, *, also: Also | None = None
    ) -> Landed:
        """Where it was; what stands there now keeps the name, the restored gets one beside it."""
        async with self._database.begin() as tx:
            drive = await self._drive.drive_of(tx, owner)
            thrown = await self._repository.thrown(tx, drive.id, id_)
        if thrown is None:
            raise NotThrownAway(way_out="`tesra drive trash` lists what is there.")
        at, parts = await self._at(owner, thrown.version), parse_path(thrown.path)
        made = _Made()

        def edit(editor: TreeEditor, root: bytes) -> bytes:
            entry = editor.require(at.root, parts)
            changed, place = editor.graft(root, parts, entry)
            made.beside = [(parts, place)] if place != parts else []
            return changed

        async def take(tx: Tx, landed: Landed) -> None:
            if not await self._repository.take_from_trash(tx, drive.id, id_):
                raise NotThrownAway(way_out="`tesra drive trash` lists what is there.")
            if also is not None:
                await also(tx, landed)

        words = f"restored {thrown.path}"[:200]
        return await self._land(owner, edit, words, made=made, also=take)

    async def empty_trash(self, owner: UserId, *, older_than: timedelta = timedelta()) -> int:
        """Forget what was thrown away; how much there was."""
        async with self._database.begin() as tx:
            drive = await self._drive.drive_of(tx, owner)
            return await self._repository.empty_trash(tx, drive.id, older_than)

    async def _found(self, owner: UserId, at: Version, path: str) -> Found:
        parts = parse_path(path)
        entry = await self._reading(owner, at, lambda editor: editor.require(at.root, parts))
        return Found(parts, entry)

    async def _root_of(self, owner: UserId, at: Version, found: Found) -> bytes:
        """A folder's own root; one that holds just it for anything else."""
        if isinstance(found.entry, Folder):
            return found.entry.tree
        return await self._writing(owner, at, lambda editor, _: editor.alone(found.entry))

    async def _land(
        self,
        owner: UserId,
        edit: Edit,
        words: str,
        *,
        made: _Made | None = None,
        also: Also | None = None,
    ) -> Landed:
        """Make the change on the present head until nobody was faster; one after the other here.

        ``edit`` fills ``made``.
        """
        made = made or _Made()
        async with self._turns.setdefault(owner, asyncio.Lock()):
            for _ in range(_TRIES):
                now = await self.head(owner)
                root = await self._writing(owner, now, edit)
                landed = await self._moved(owner, now, root, words, made=made, also=also)
                if landed is not None:
                    return landed
        raise TooBusy(way_out="Try again.")

    async def _moved(
        self,
        owner: UserId,
        now: Version,
        root: bytes,
        words: str,
        *,
        made: _Made,
        also: Also | None,
    ) -> Landed | None:
        """The head with this root; None when it is not ``now`` any more."""
        async with self._database.begin() as tx:
            drive = await self._drive.drive_of(tx, owner)
            version = now
            if root != now.root:
                if not await self._repository.move_head(tx, drive.id, now, root=root, words=words):
                    return None
                for path in made.thrown:
                    shown = show_path(path)
                    await self._repository.throw(tx, drive.id, new_id("trs"), shown, now.number)
                await notify(tx, f"drive:{drive.id}")
                moved = await self._repository.head(tx, drive.id)
                assert moved is not None
                version = moved
            landed = Landed(version, tuple(made.beside))
            if also is not None:
                await also(tx, landed)
            return landed

    async def _at(self, owner: UserId, version: int | None) -> Version:
        if version is None:
            return await self.head(owner)
        async with self._database.begin() as tx:
            drive = await self._drive.drive_of(tx, owner)
            found = await self._repository.version(tx, drive.id, version)
        if found is None:
            raise VersionUnknown(way_out="`tesra drive log` lists them.")
        return found

    async def _begin(self, owner: UserId, drive: Drive) -> Version:
        async with self._database.begin() as tx:
            epoch = EpochId((await self._drive.open_upload(tx, owner)).epoch)
        work = await self._workbench(owner, epoch)
        root = await aside(work.editor.empty)
        await work.store()
        async with self._database.begin() as tx:
            await self._repository.begin(tx, drive.id, epoch, root)
            found = await self._repository.head(tx, drive.id)
        assert found is not None  # ours, or that of who was first
        return found

    async def _reading(
        self, owner: UserId, at: Version, look: Callable[[TreeEditor], Seen]
    ) -> Seen:
        work = await self._workbench(owner, at.epoch)
        return await aside(lambda: look(work.editor))

    async def _writing(self, owner: UserId, at: Version, edit: Edit) -> bytes:
        work = await self._workbench(owner, at.epoch)
        root = await aside(lambda: edit(work.editor, at.root))
        await work.store()
        return root

    async def _workbench(self, owner: UserId, epoch: EpochId) -> Workbench:
        reader = await self._drive.reader(owner, epoch)
        return Workbench(self._drive, owner, epoch, reader, ends=self._ends)
