"""The files of a tree, each with every chunk that it needs: its own, and its folder's."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass

from tesra.drive.peers.errors import PackAway, PackLocked
from tesra.drive.reading import EpochReader
from tesra.kit.saying import said
from tesra.storage.editing import Parts, show_path
from tesra.storage.tree import Entry, File, Folder, NodeList, read_node

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Kept:
    """A file; or a folder whose own listing can't be read now, and with it what is below."""

    path: Parts
    size_bytes: int
    chunks: tuple[bytes, ...]
    whole: bool = True  # every chunk that it needs is known


Wanted = Callable[[bytes], Awaitable[bool]]  # whether a folder, by its tree, is to be looked into


async def files_at(
    reader: EpochReader,
    root: bytes,
    path: Parts,
    *,
    after: Parts | None = None,
    wanted: Wanted | None = None,
) -> AsyncIterator[Kept]:
    """All files at and below a path; raises ``FileUnknown``. ``after``: only those behind it."""
    tree = root
    for depth, name in enumerate(path):
        nodes, _ = await folder_at(reader, tree)
        found = await reader.find(tree, name)
        if isinstance(found, File):
            yield await kept_of(reader, path[: depth + 1], found, nodes)
            return
        if isinstance(found, Folder):
            tree = found.tree
    async for kept in _Walk(reader, wanted).below(tree, path, after):
        yield kept


async def names_of(reader: EpochReader, root: bytes, packs: Collection[str]) -> str:
    """A few of the files that need one of these packs, for an error's text."""
    named: list[str] = []
    more = 0
    async for kept in files_at(reader, root, ()):
        places = await reader.locate(list(kept.chunks))
        if not any(place.pack_id in packs for place in places.values()):
            continue
        if len(named) < _NAMED:
            named.append(f"'{show_path(kept.path)}'")
        else:
            more += 1
    names = ", ".join(named)
    return said(f"{names} and {more:d} more") if more else names


async def kept_of(reader: EpochReader, path: Parts, file: File, nodes: tuple[bytes, ...]) -> Kept:
    """A file with all that it needs; ``nodes`` are those of its folder."""
    if not file.listed:
        return Kept(path, file.size, (*nodes, *file.chunks))
    try:
        content = await reader.chunk_ids(file)
    except (PackLocked, PackAway):
        return Kept(path, file.size, (*nodes, *file.chunks), whole=False)
    return Kept(path, file.size, (*nodes, *file.chunks, *content))


async def nodes_of(reader: EpochReader, tree: bytes) -> tuple[bytes, ...]:
    """The nodes of a folder, more than one when it is large."""
    node = read_node((await reader.read([tree]))[tree])
    return (tree, *node.nodes) if isinstance(node, NodeList) else (tree,)


@dataclass(frozen=True, slots=True)
class _Walk:
    reader: EpochReader
    wanted: Wanted | None

    async def below(self, tree: bytes, path: Parts, after: Parts | None) -> AsyncIterator[Kept]:
        """In order; folders whose files all stand before ``after`` are not read."""
        if self.wanted is not None and not await self.wanted(tree):
            return
        try:
            nodes, entries = await folder_at(self.reader, tree)
        except (PackLocked, PackAway):
            yield Kept(path, 0, (tree,), whole=False)
            return
        for entry in entries:
            here = (*path, entry.name)
            place = _against(here, after)
            if place < 0:
                continue
            if isinstance(entry, Folder):
                async for kept in self.below(entry.tree, here, None if place else after):
                    yield kept
            elif isinstance(entry, File) and place:
                yield await kept_of(self.reader, here, entry, nodes)


def _against(here: Parts, after: Parts | None) -> int:
    """Where a path stands: before ``after``, above it, or behind it."""
    if after is None:
        return 1
    own, other = ([part.encode() for part in parts] for parts in (here, after[: len(here)]))
    if own == other:
        return 0 if len(after) > len(here) else -1
    return 1 if own > other else -1


async def folder_at(reader: EpochReader, tree: bytes) -> tuple[tuple[bytes, ...], list[Entry]]:
    """A folder's nodes, more than one when it is large, and what they hold."""
    node = read_node((await reader.read([tree]))[tree])
    if not isinstance(node, NodeList):
        return (tree,), list(node.entries)
    entries: list[Entry] = []
    for part in node.nodes:
        below = read_node((await reader.read([part]))[part])
        entries += [] if isinstance(below, NodeList) else below.entries
    return (tree, *node.nodes), entries
