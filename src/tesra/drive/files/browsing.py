"""Looking at folders as people do: sorted as they like, and since when each entry is what it is.

Reads only. Trees keep no times: an entry was changed in the oldest version, counted back from now
without a gap, in which it is the same.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Any, TypeVar

from tesra.drive.aside import aside
from tesra.drive.files.repository import Version
from tesra.drive.files.service import FileService, Found
from tesra.drive.files.workbench import Workbench
from tesra.drive.service import DriveService
from tesra.kit.errors import Invalid
from tesra.kit.ids import EpochId, UserId
from tesra.storage.editing import NothingThere, Parts, TreeEditor, parse_path, show_path
from tesra.storage.tree import Entry, File, Folder

LOOKED_BACK = 200  # versions; what is older than these is told to be older
_LISTS_KEPT = 4
_KNOWN = 20_000  # what stood where in which tree: never changes, so it is kept

Seen = TypeVar("Seen")


class PlaceUnreadable(Invalid):
    """This is no place in a sorted list."""


class Sort(StrEnum):
    """The order of a listing; by name is the order in which folders are stored."""

    NAME = "name"
    NAME_DOWN = "-name"
    SIZE = "size"
    SIZE_DOWN = "-size"


@dataclass(frozen=True, slots=True)
class Changed:
    """Since when an entry is what it is; not ``exact``: for longer than was looked back."""

    version: int
    at: datetime
    exact: bool


@dataclass(frozen=True, slots=True)
class Stage:
    """What stood at a path from ``version`` on; None: nothing."""

    version: Version
    entry: Entry | None
    is_now: bool


@dataclass(frozen=True, slots=True)
class History:
    """The stages of a path, the newest first; ``next``: the version to go on before."""

    stages: list[Stage]
    next: int | None


class Browser:
    """For drives that the server has the keys of; one for a server process."""

    def __init__(self, drive: DriveService, files: FileService) -> None:
        self._drive = drive
        self._files = files
        self._known: dict[tuple[bytes, Parts], Entry | None] = {}
        self._ends: dict[bytes, bytes] = {}
        self._lists: dict[tuple[bytes, Sort], list[Entry]] = {}

    async def listing(
        self, owner: UserId, path: str, *, sort: Sort, after: str | None, limit: int
    ) -> list[Found]:
        """What a folder holds, in this order, behind the place ``after`` (of ``place_of``)."""
        if sort is Sort.NAME:
            return await self._files.listing(owner, path, after=after, limit=limit)
        parts, at = parse_path(path), await self._files.head(owner)
        order = _Order(sort)
        behind = order.read(after) if after is not None else None

        def look(editor: TreeEditor) -> list[Found]:
            entry = editor.require(at.root, parts)
            if not isinstance(entry, Folder):
                return [Found(parts, entry)]
            chosen = order.behind(self._sorted(editor, entry.tree, order), behind, limit)
            return [Found((*parts, below.name), below) for below in chosen]

        return await self._reading(owner, at.epoch, look)

    def _sorted(self, editor: TreeEditor, tree: bytes, order: "_Order") -> list[Entry]:
        """All that a folder holds in an order, without content; the last ones are kept: trees
        never change, and who looks at one page often looks at the next."""
        kept = self._lists.get((tree, order.sort))
        if kept is None:
            other = next((some for (of, _), some in list(self._lists.items()) if of == tree), None)
            bare = other or [_without_content(entry) for entry in editor.listing(tree)]
            kept = sorted(bare, key=order.key, reverse=order.down)
            while len(self._lists) >= _LISTS_KEPT:
                self._lists.pop(next(iter(self._lists)), None)
            self._lists[tree, order.sort] = kept
        return kept

    async def folders(self, owner: UserId, path: str, *, limit: int) -> list[Found]:
        """The folders in a folder."""
        parts, at = parse_path(path), await self._files.head(owner)

        def look(editor: TreeEditor) -> list[Found]:
            entry = editor.require(at.root, parts)
            below = editor.listing(entry.tree) if isinstance(entry, Folder) else iter(())
            only = (one for one in below if isinstance(one, Folder))
            return [Found((*parts, one.name), one) for one in islice(only, limit)]

        return await self._reading(owner, at.epoch, look)

    async def standing(self, owner: UserId, paths: Sequence[str]) -> dict[Parts, Entry]:
        """What stands at these paths now; where nothing does, nothing is said."""
        at = await self._files.head(owner)
        wanted = list(dict.fromkeys(parse_path(path) for path in paths))
        found = await self._lookup(owner, at, wanted)
        return {path: entry for path, entry in found.items() if entry is not None}

    async def changed(self, owner: UserId, paths: Sequence[Parts]) -> dict[Parts, Changed]:
        """Since when each of these paths is what it is."""
        rows = await self._files.versions(owner, limit=LOOKED_BACK)
        if not rows:
            return {}
        now = await self._lookup(owner, rows[0], paths)
        waiting = {path for path, entry in now.items() if entry is not None}
        since = dict.fromkeys(waiting, rows[0])
        for row in rows[1:]:
            if not waiting:
                break
            before = await self._lookup(owner, row, sorted(waiting))
            waiting = {path for path in waiting if before[path] == now[path]}
            since |= dict.fromkeys(waiting, row)
        whole = rows[-1].number == 1
        return {
            path: Changed(row.number, row.made_at, exact=path not in waiting or whole)
            for path, row in since.items()
        }

    async def history(
        self, owner: UserId, path: str, *, before: int | None = None, limit: int = 50
    ) -> History:
        """What stood at a path, from now back; each stage once, with the version that began it."""
        parts = parse_path(path)
        await self._files.head(owner)  # one is made for who never had any
        rows = await self._files.versions(owner, before=before, limit=LOOKED_BACK + 1)
        stages: list[Stage] = []
        current = (await self._lookup(owner, rows[0], [parts]))[parts] if rows else None
        more = len(rows) > LOOKED_BACK
        pairs = list(zip(rows, [*rows[1:], None], strict=True))
        for row, older in pairs[:-1] if more else pairs:
            earlier = (await self._lookup(owner, older, [parts]))[parts] if older else None
            if current != earlier:
                stages.append(Stage(row, current, is_now=before is None and not stages))
                if len(stages) == limit and older is not None:
                    return History(stages, row.number)
            current = earlier
        if not stages and not more and before is None:
            raise NothingThere(f"Nothing ever stood at '{show_path(parts)}'.")
        return History(stages, rows[-1].number + 1 if more else None)

    async def _lookup(
        self, owner: UserId, at: Version, paths: Sequence[Parts]
    ) -> dict[Parts, Entry | None]:
        missing = [path for path in paths if (at.root, path) not in self._known]
        if missing:

            def look(editor: TreeEditor) -> dict[Parts, Entry | None]:
                return {path: editor.lookup(at.root, path) for path in missing}

            found = await self._reading(owner, at.epoch, look)
            if len(self._known) + len(found) > _KNOWN:
                self._known.clear()
            self._known |= {(at.root, path): entry for path, entry in found.items()}
            known = {path: self._known[at.root, path] for path in paths if path not in found}
            return known | found
        return {path: self._known[at.root, path] for path in paths}

    async def _reading(
        self, owner: UserId, epoch: EpochId, look: Callable[[TreeEditor], Seen]
    ) -> Seen:
        reader = await self._drive.reader(owner, epoch)
        work = Workbench(self._drive, owner, epoch, reader, ends=self._ends)
        return await aside(lambda: look(work.editor))


class _Order:
    """One way to sort, and the places in it."""

    def __init__(self, sort: Sort) -> None:
        self.sort = sort
        self.down = sort is Sort.NAME_DOWN

    def read(self, place: str) -> Any:
        """The key of a place that ``place_of`` gave."""
        size, slash, name = place.partition("/")
        if not slash or not (size.isascii() and size.lstrip("-").isdigit()) or len(size) > 18:
            raise PlaceUnreadable(way_out="Begin at the first page.")
        return self._key(int(size), name)

    def key(self, entry: Entry) -> Any:
        return self._key(_size(entry), entry.name)

    def behind(self, entries: list[Entry], key: Any, limit: int) -> list[Entry]:
        """The first of sorted entries behind a key."""
        if key is None:
            start = 0
        elif self.down:  # sorted downwards: the last that is not smaller
            start = len(entries) - bisect_left(entries[::-1], key, key=self.key)
        else:
            start = bisect_right(entries, key, key=self.key)
        return entries[start : start + limit]

    def _key(self, size: int, name: str) -> Any:
        if self.down:
            return name.encode()
        return (-size if self.sort is Sort.SIZE_DOWN else size, name.encode())


def place_of(sort: Sort, found: Found) -> str:
    """Where an entry stands in a sorted list, for the page that begins behind it."""
    name = found.entry.name
    return name if sort is Sort.NAME else f"{_size(found.entry)}/{name}"


def _size(entry: Entry) -> int:
    return entry.size if isinstance(entry, File) else -1


def _without_content(entry: Entry) -> Entry:
    return replace(entry, inline=None, chunks=()) if isinstance(entry, File) else entry
