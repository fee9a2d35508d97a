"""What becomes of a finished upload, by the drive's ordinary way of writing.

A file becomes a version of the file at its path. An archive becomes as many files in one commit,
or a project's newest snapshot; so does a folder of the drive, of which no content moves.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tesra.db.engine import Database, Tx
from tesra.drive.aside import scratch
from tesra.drive.files.changing import SomethingThere
from tesra.drive.files.service import Also, FileService, Found
from tesra.drive.files.service import Landed as Changed
from tesra.drive.intake import Intake
from tesra.drive.model import check_project_name
from tesra.drive.service import DriveService
from tesra.drive.uploads.model import Become, MetadataInvalid, Wish
from tesra.kit.ids import UserId
from tesra.storage.archives import Limits
from tesra.storage.editing import NotAFolder, NothingThere, Parts, show_path
from tesra.storage.spooling import spool_archive
from tesra.storage.tree import File, Folder
from tesra.wire.drive import Project
from tesra.wire.files import Changes, PutTree

_COPY_BYTES = 2**20

OnLanded = Callable[[Tx, int | None, str | None], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Landed:
    """The drive's version that has it, or the project."""

    version: int | None = None
    project: Project | None = None


class Landing:
    """Brings files of the server's own disk to their places in drives."""

    def __init__(
        self, database: Database, drive: DriveService, files: FileService, folder: Path
    ) -> None:
        """``folder`` is where archives are unpacked."""
        self._database = database
        self._drive = drive
        self._files = files
        self._folder = folder
        self._intake = Intake(database, drive)

    async def require_place(self, owner: UserId, wish: Wish) -> None:
        """Raises what landing would: a file in the way, a folder where the file is to be."""
        if wish.become is Become.PROJECT:
            return
        if wish.become is Become.FILE and not wish.path:
            raise MetadataInvalid("The file has no name.")
        for depth in range(1, len(wish.path) + 1):
            found = await self._standing(owner, wish.path[:depth])
            if found is None:
                return
            last = depth == len(wish.path)
            if last and wish.become is Become.FILE and isinstance(found.entry, Folder):
                raise SomethingThere(
                    f"There is a folder at '{show_path(wish.path)}'.",
                    way_out="End the path with a slash to put the file into it.",
                )
            if not (last and wish.become is Become.FILE) and not isinstance(found.entry, Folder):
                raise NotAFolder(f"'{show_path(wish.path[:depth])}' is a file, not a folder.")

    async def land(self, owner: UserId, content: Path, wish: Wish, done: OnLanded) -> Landed:
        """Bring it to where it was meant for; ``done`` is called within the last transaction."""
        await self.require_place(owner, wish)
        if wish.become is Become.FILE:
            return await self._file(owner, content, wish, done)
        if wish.become is Become.FOLDER:
            return await self.folder(owner, content, wish.path, done)
        assert wish.project is not None
        project = await self._intake.archive(owner, content, name=wish.project, within=self._folder)
        async with self._database.begin() as tx:
            await done(tx, None, project.id)
        return Landed(project=project)

    async def folder(
        self, owner: UserId, archive: Path, path: Parts, done: OnLanded | None = None
    ) -> Landed:
        """All files of a zip or tar below ``path``, in one commit; what else is there stays."""
        limits = await self._limits(owner)
        async with scratch(self._folder) as place:
            with (place / "content").open("xb+") as file:
                spool = await asyncio.to_thread(spool_archive, archive, file, limits)
                tree = await self._intake.stored(owner, spool.send)
        change = PutTree(path=show_path(path), tree=tree, merge=True)
        landed = await self._files.change(owner, Changes(changes=[change]), also=_also(done))
        return Landed(version=landed.version.number)

    async def project(
        self, owner: UserId, path: str, *, name: str | None, version: int | None = None
    ) -> Project:
        """A folder of the drive as a project's newest snapshot; a zip or tar file is unpacked."""
        found = await self._files.find(owner, path, version=version)
        checked = check_project_name(name or _name_of(found))
        if isinstance(found.entry, Folder):
            frozen = await self._files.freeze(owner, path, version=version)
            async with self._database.begin() as tx:
                return await self._drive.point_project(tx, owner, checked, frozen.id)
        opened = await self._files.open(owner, path, version=version)
        async with scratch(self._folder) as place:
            archive = place / "archive"
            with archive.open("xb") as target:
                async for piece in opened.read(0, opened.size_bytes):
                    await asyncio.to_thread(target.write, piece)
            return await self._intake.archive(owner, archive, name=checked, within=self._folder)

    async def _file(self, owner: UserId, content: Path, wish: Wish, done: OnLanded) -> Landed:
        stored = await self._intake.entry(owner, content)
        assert isinstance(stored, File)
        named = replace(stored, name=wish.path[-1])
        words = f"put {show_path(wish.path)}"
        landed = await self._files.put(owner, {wish.path: named}, words=words, also=_also(done))
        return Landed(version=landed.version.number)

    async def _limits(self, owner: UserId) -> Limits:
        async with self._database.begin() as tx:
            quota = await self._drive.quota(tx, owner)
        return Limits(total_bytes=min(Limits().total_bytes, 2 * quota.quota_bytes))

    async def _standing(self, owner: UserId, path: Parts) -> Found | None:
        try:
            return await self._files.find(owner, show_path(path))
        except NothingThere:
            return None


def _also(done: OnLanded | None) -> Also | None:
    if done is None:
        return None
    told = done  # for the inner function, it is certainly there

    async def also(tx: Tx, landed: Changed) -> None:
        await told(tx, landed.version.number, None)

    return also


def _name_of(found: Found) -> str:
    name = found.path[-1] if found.path else "drive"
    if isinstance(found.entry, Folder):
        return name
    for ending in (".zip", ".tar", ".tgz", ".tar.gz", ".tar.xz", ".tar.bz2", ".tar.zst"):
        name = name.removesuffix(ending)
    return name
