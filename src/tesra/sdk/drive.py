"""The verbs of the drive: paths such as ``/models/best.pt`` in the caller's own drive."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tesra.kit.errors import Conflict, Invalid, NotFound
from tesra.sdk.connection import PREFIX, Connection
from tesra.storage.listing import Warn, unheard
from tesra.storage.progress import Report, silent
from tesra.wire.drive import Quota, ReadPlan
from tesra.wire.files import (
    Change,
    Changes,
    Committed,
    Copy,
    DriveEntry,
    DriveHead,
    DriveUse,
    DriveVersion,
    MakeFolder,
    Move,
    PathStage,
    PutTree,
    Remove,
    Restore,
    ThrownAway,
)

_SMALL_BYTES = 256 * 2**10  # up to here one request is cheaper than asking what is missing


class LocalMissing(NotFound):
    """There is no such file or folder here."""


class FileThere(Conflict):
    """A file is in the way of a folder."""


class NothingToPut(Invalid):
    """Neither a file nor a folder."""


class DriveVerbs:
    """What ``Client`` can do with the drive. Each change keeps the version before it."""

    connection: Connection

    def drive_head(self) -> DriveHead:
        return self.connection.get("/drive/head", DriveHead)

    def drive_list(
        self, path: str = "/", *, version: int | None = None, limit: int | None = None
    ) -> Iterator[DriveEntry]:
        """What a folder holds, sorted by the bytes of the names; a file is its own listing."""
        query = {"path": path, "version": version}
        return self.connection.pages("/drive/tree", DriveEntry, query=query, limit=limit)

    def drive_entry(self, path: str, *, version: int | None = None) -> DriveEntry:
        """What stands at a path."""
        query = {"path": path, "version": version}
        return self.connection.get("/drive/entry", DriveEntry, query)

    def drive_put(
        self,
        source: Path | str,
        path: str,
        *,
        merge: bool = False,
        report: Report = silent,
        warn: Warn = unheard,
    ) -> Committed:
        """Bring a file or a folder to where ``drive_put_target`` says; only what the drive lacks is
        sent. ``warn`` hears of what a folder holds and a drive can't: sockets, links out of it.

        An upload that was cut off goes on where it was: call it again.
        """
        here, target = Path(source), self.drive_put_target(source, path, merge=merge)
        if not here.is_dir():
            return self.drive_put_file(here, target, report=report)
        from tesra.sdk.transfer import HttpDoor, upload_tree  # brings the ciphers

        self.drive_quota()  # away or refused: told at once, since an upload has patience
        door = HttpDoor(self.connection.http, f"{PREFIX}/drive")
        tree = upload_tree(door, here.resolve(), None, report, warn)
        return self.drive_change(PutTree(path=target, tree=tree, merge=merge))

    def drive_put_target(self, source: Path | str, path: str, *, merge: bool = False) -> str:
        """Where ``drive_put`` brings it.

        A path that ends with a slash, as the root does, takes it under its own name, and so does
        a folder a file; with ``merge`` the content of a folder goes into the path itself.
        """
        here = Path(source)
        if not here.exists():
            raise LocalMissing(f"'{here}' is not there.")
        name = Path(os.path.abspath(here)).name  # noqa: PTH100 - a link's own name
        if not here.is_dir():
            return self.drive_target(name, path)
        return f"{path.rstrip('/')}/{name}" if path.endswith("/") and not merge else path

    def drive_put_file(self, source: Path, path: str, *, report: Report = silent) -> Committed:
        """Bring a file to just this path; what stood there is in the version before.

        Of a link the file that it leads to is brought.
        """
        known = source.stat()
        if not stat.S_ISREG(known.st_mode):
            raise NothingToPut(
                f"'{source}' is neither a file nor a folder.", way_out="Write it to a file first."
            )
        source = source.resolve()
        if known.st_size <= _SMALL_BYTES and not known.st_mode & stat.S_IXUSR:
            query = {"path": path}
            return self.connection.write("/drive/content", Committed, query, source.read_bytes())
        from tesra.sdk.transfer import HttpDoor, upload_tree

        self.drive_quota()  # as above
        door = HttpDoor(self.connection.http, f"{PREFIX}/drive")
        tree = upload_tree(door, source.parent, [source], report)
        return self.drive_change(PutTree(path=path, tree=tree, single=True))

    def drive_get(
        self,
        path: str,
        dest: Path | str,
        *,
        version: int | None = None,
        report: Report = silent,
    ) -> Path:
        """Bring what stands at ``path``: a folder's content into ``dest``, a file into the folder
        ``dest`` or under that name. Files that are there and equal are not fetched again."""
        from tesra.sdk.fetch import fetch_planned
        from tesra.sdk.transfer import HttpDoor

        entry = self.drive_entry(path, version=version)
        plan = self.connection.get("/drive/plan", ReadPlan, {"path": path, "version": version})
        door = HttpDoor(self.connection.http, f"{PREFIX}/drive")
        place = Path(dest)
        if entry.kind == "dir":
            if place.exists() and not place.is_dir():
                raise FileThere(f"'{place}' is a file, and a folder is to come there.")
            fetch_planned(door, plan, place, report)
            return place
        inside = place.is_dir() or str(dest).endswith("/")
        landed = place / entry.name if inside else place
        fetch_planned(door, plan, landed.parent, report, name=landed.name)
        return landed

    def drive_read(self, path: str, *, version: int | None = None) -> Iterator[bytes]:
        """A file's bytes, piece by piece."""
        query = {"path": path, "version": version}
        with self.connection.stream("/drive/content", query) as pieces:
            yield from pieces

    def drive_read_range(
        self, path: str, start: int, end: int, *, version: int | None = None
    ) -> bytes:
        """Bytes ``start`` up to (not with) ``end`` of a file."""
        query = {"path": path, "version": version}
        return self.connection.read("/drive/content", query, {"Range": f"bytes={start}-{end - 1}"})

    def drive_change(self, *changes: Change) -> Committed:
        """Apply changes, all or none; once, whatever the connection does."""
        body = Changes(changes=list(changes))
        return self.connection.post("/drive/changes", Committed, body, once=True)

    def drive_make_folder(self, path: str) -> Committed:
        return self.drive_change(MakeFolder(path=path))

    def drive_remove(self, path: str) -> Committed:
        """Into the trash."""
        return self.drive_change(Remove(path=path))

    def drive_move(self, path: str, to: str, *, replace: bool = False) -> Committed:
        """No content is moved. A target that is a folder takes it under its own name."""
        return self.drive_change(Move(path=path, to=self.drive_target(path, to), replace=replace))

    def drive_copy(self, path: str, to: str, *, replace: bool = False) -> Committed:
        """No content is copied. A target that is a folder takes it under its own name."""
        return self.drive_change(Copy(path=path, to=self.drive_target(path, to), replace=replace))

    def drive_restore(self, path: str, version: int, to: str | None = None) -> Committed:
        """A path as it was in a version, beside what stands there now."""
        return self.drive_change(Restore(path=path, version=version, to=to))

    def drive_versions(self, limit: int | None = None) -> Iterator[DriveVersion]:
        """The history, the newest first."""
        return self.connection.pages("/drive/versions", DriveVersion, limit=limit)

    def drive_path_history(self, path: str, limit: int | None = None) -> Iterator[PathStage]:
        """What stood at a path of the default drive, from now back."""
        return self.connection.pages("/drive/history", PathStage, query={"path": path}, limit=limit)

    def drive_trash(self, limit: int | None = None) -> Iterator[ThrownAway]:
        return self.connection.pages("/drive/trash", ThrownAway, limit=limit)

    def drive_restore_trash(self, item: str) -> Committed:
        """Back to where it was."""
        return self.connection.post(f"/drive/trash/{item}/restore", Committed, once=True)

    def drive_empty_trash(self) -> None:
        """Forget all that was thrown away; versions that hold it stay until they are given up."""
        self.connection.send("DELETE", "/drive/trash")

    def drive_use(self, path: str = "/", *, version: int | None = None) -> DriveUse:
        """How many files and bytes stand below a path."""
        return self.connection.get("/drive/use", DriveUse, {"path": path, "version": version})

    def drive_quota(self) -> Quota:
        """How much of what is yours is used, after equal content is counted once."""
        return self.connection.get("/drive/quota", Quota)

    def drive_target(self, source: str, to: str) -> str:
        """Where a move or a copy to ``to`` goes: into a folder that is there, under its own name."""
        name = PurePosixPath(source).name
        if to.endswith("/") or self._is_folder(to):
            return f"{to.rstrip('/')}/{name}"
        return to

    def _is_folder(self, path: str) -> bool:
        try:
            return self.drive_entry(path).kind == "dir"
        except NotFound:
            return False
