"""The verbs of the drive for any place: ``/a`` in the default drive, ``NAME:/a`` in a private one."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tesra.kit.errors import Invalid
from tesra.sdk.credentials import config_folder
from tesra.sdk.drive import DriveVerbs, FileThere
from tesra.sdk.private.places import parse_place
from tesra.sdk.storage import StorageVerbs
from tesra.storage.listing import Warn, unheard
from tesra.storage.progress import Report, silent
from tesra.wire.files import Committed, DriveEntry, DriveUse, DriveVersion
from tesra.wire.storage import DriveHealth

if TYPE_CHECKING:
    from tesra.sdk.private.drive import PrivateTree
    from tesra.sdk.private.owner import PrivateDrives


class TwoDrives(Invalid):
    """Nothing moves from one drive to another without being read: the keys differ."""


class AnyDriveVerbs(DriveVerbs, StorageVerbs):
    """``DriveVerbs``, with private drives opened and sealed on this device."""

    @cached_property
    def private_drives(self) -> "PrivateDrives":
        """Make, unlock, recover, rotate: the keys of private drives."""
        from tesra.sdk.private.device import DeviceKeys  # brings the ciphers
        from tesra.sdk.private.owner import PrivateDrives

        return PrivateDrives(self.connection, DeviceKeys(config_folder()))

    def drive_list(
        self, path: str = "/", *, version: int | None = None, limit: int | None = None
    ) -> Iterator[DriveEntry]:
        place = parse_place(path)
        if place.drive is None:
            return super().drive_list(path, version=version, limit=limit)
        return self._tree(place.drive).listing(place.path, version=version)

    def drive_entry(self, path: str, *, version: int | None = None) -> DriveEntry:
        place = parse_place(path)
        if place.drive is None:
            return super().drive_entry(path, version=version)
        return self._tree(place.drive).entry(place.path, version=version)

    def drive_put(
        self,
        source: Path | str,
        path: str,
        *,
        merge: bool = False,
        report: Report = silent,
        warn: Warn = unheard,
    ) -> Committed:
        place = parse_place(path)
        if place.drive is None:
            return super().drive_put(source, path, merge=merge, report=report, warn=warn)
        target = parse_place(self.drive_put_target(source, path, merge=merge))
        tree = self._tree(place.drive)
        return tree.put(Path(source), target.path, merge=merge, report=report, warn=warn)

    def drive_put_file(self, source: Path, path: str, *, report: Report = silent) -> Committed:
        place = parse_place(path)
        if place.drive is None:
            return super().drive_put_file(source, path, report=report)
        return self._tree(place.drive).put(source, place.path, report=report)

    def drive_get(
        self,
        path: str,
        dest: Path | str,
        *,
        version: int | None = None,
        report: Report = silent,
    ) -> Path:
        place = parse_place(path)
        if place.drive is None:
            return super().drive_get(path, dest, version=version, report=report)
        tree, target = self._tree(place.drive), Path(dest)
        entry = tree.entry(place.path, version=version)
        if entry.kind == "dir":
            if target.exists() and not target.is_dir():
                raise FileThere(f"'{target}' is a file, and a folder is to come there.")
            tree.get(place.path, target, version=version, report=report)
            return target
        inside = target.is_dir() or str(dest).endswith("/")
        landed = target / entry.name if inside else target
        tree.get(place.path, landed.parent, version=version, report=report, name=landed.name)
        return landed

    def drive_read(self, path: str, *, version: int | None = None) -> Iterator[bytes]:
        place = parse_place(path)
        if place.drive is None:
            return super().drive_read(path, version=version)
        return self._tree(place.drive).read(place.path, version=version)

    def drive_read_range(
        self, path: str, start: int, end: int, *, version: int | None = None
    ) -> bytes:
        place = parse_place(path)
        if place.drive is None:
            return super().drive_read_range(path, start, end, version=version)
        tree = self._tree(place.drive)
        return b"".join(tree.read(place.path, version=version, start=start, end=end))

    def drive_make_folder(self, path: str) -> Committed:
        place = parse_place(path)
        if place.drive is None:
            return super().drive_make_folder(path)
        return self._tree(place.drive).make_folder(place.path)

    def drive_remove(self, path: str) -> Committed:
        """Into the trash; in a private drive, the versions before keep it."""
        place = parse_place(path)
        if place.drive is None:
            return super().drive_remove(path)
        return self._tree(place.drive).remove(place.path)

    def drive_move(self, path: str, to: str, *, replace: bool = False) -> Committed:
        if self._drive_of(path, to) is None:
            return super().drive_move(path, to, replace=replace)
        return self._within(path, to, keep=False, force=replace)

    def drive_copy(self, path: str, to: str, *, replace: bool = False) -> Committed:
        if self._drive_of(path, to) is None:
            return super().drive_copy(path, to, replace=replace)
        return self._within(path, to, keep=True, force=replace)

    def drive_restore(self, path: str, version: int, to: str | None = None) -> Committed:
        drive = self._drive_of(path, to or path)
        if drive is None:
            return super().drive_restore(path, version, to)
        target = parse_place(to).path if to else None
        return self._tree(drive).restore(parse_place(path).path, version, target)

    def drive_history(self, drive: str | None, limit: int | None = None) -> Iterator[DriveVersion]:
        """The history of a drive, the newest first; None is the default drive."""
        if drive is None:
            return super().drive_versions(limit)
        return self._tree(drive).versions(limit)

    def drive_use(self, path: str = "/", *, version: int | None = None) -> DriveUse:
        place = parse_place(path)
        if place.drive is None:
            return super().drive_use(path, version=version)
        return self._tree(place.drive).use(place.path, version=version)

    def drive_health(
        self, path: str = "/", *, after: str | None = None, limit: int = 1000
    ) -> DriveHealth:
        place = parse_place(path)
        if place.drive is None:
            return super().drive_health(path, after=after, limit=limit)
        behind = parse_place(after).path if after else None
        return self._tree(place.drive).health(place.path, after=behind, limit=limit)

    def _within(self, path: str, to: str, *, keep: bool, force: bool) -> Committed:
        source, target = parse_place(path), parse_place(to)
        assert source.drive is not None  # as _drive_of has seen
        tree = self._tree(source.drive)
        into = tree.into(source.path, target.path)
        return tree.move(source.path, into, keep=keep, force=force)

    def _drive_of(self, path: str, to: str) -> str | None:
        drive, other = parse_place(path).drive, parse_place(to).drive
        if drive != other:
            raise TwoDrives(way_out="`tesra drive get` it here, then `tesra drive put` it there.")
        return drive

    def _tree(self, drive: str) -> "PrivateTree":
        return self.private_drives.tree(drive)
