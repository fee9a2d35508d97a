"""How many files stand below a folder, and which packs they need; each folder is read once.

Trees are named by their content, so what was found of one holds while its packs do, and after a
change only the folders on the way to it are read again.
"""

from collections import OrderedDict
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from tesra.drive.kept import folder_at, kept_of
from tesra.drive.peers.errors import PackAway, PackLocked
from tesra.drive.reading import EpochReader, fold_up
from tesra.storage.tree import File, Folder

KEPT = 10_000  # folders that a server process remembers
_LOCATED = 5_000  # chunks at once


@dataclass(frozen=True, slots=True)
class Reach:
    """``total`` files need these packs; ``whole``: every listing below could be read."""

    total: int
    packs: frozenset[str]
    whole: bool = True


class Reaches:
    """What is known of folders; one for a server process."""

    def __init__(self, *, most: int = KEPT) -> None:
        self._most = most
        self._known: OrderedDict[bytes, Reach] = OrderedDict()

    async def of(self, reader: EpochReader, tree: bytes) -> Reach:
        """Of a folder by its tree; one that can't be read now counts as one file."""
        if tree not in self._known:
            with suppress(PackLocked, PackAway):  # then each folder is looked at by itself
                return await self._survey(reader, tree)
        return await self._each(reader, tree)

    async def _survey(self, reader: EpochReader, tree: bytes) -> Reach:
        """All that is not known yet, many folders at once."""
        known = dict(self._known)
        own: dict[bytes, Reach] = {}
        below: dict[bytes, list[bytes]] = {}
        chunks: dict[bytes, list[bytes]] = {}
        waiting = 0
        async for _, node_id, node in reader.nodes(tree, known=known):
            own[node_id] = Reach(node.file_count - len(node.links), frozenset())
            below[node_id] = node.below
            chunks[node_id] = [node_id, *await reader.content_ids(node)]
            waiting += len(chunks[node_id])
            if waiting >= _LOCATED:
                await _add_packs(reader, own, chunks)
                waiting = 0
        await _add_packs(reader, own, chunks)
        found = fold_up(tree, below, lambda node, parts: _sum([own[node], *parts]), known=known)
        for node_id, reach in found.items():
            self._keep(node_id, reach)
        return found[tree]

    async def _each(self, reader: EpochReader, tree: bytes) -> Reach:
        if tree in self._known:
            self._known.move_to_end(tree)
            return self._known[tree]
        found = await self._look(reader, tree)
        if found.whole:
            self._keep(tree, found)
        return found

    def _keep(self, tree: bytes, found: Reach) -> None:
        self._known[tree] = found
        while len(self._known) > self._most:
            self._known.popitem(last=False)

    def forget(self, packs: Collection[str]) -> None:
        """What needed one of these packs may need others by now: they were put again."""
        gone = [tree for tree, reach in self._known.items() if not reach.packs.isdisjoint(packs)]
        for tree in gone:
            del self._known[tree]

    async def _look(self, reader: EpochReader, tree: bytes) -> Reach:
        try:
            nodes, entries = await folder_at(reader, tree)
        except (PackLocked, PackAway):
            return Reach(1, await _packs(reader, [tree]), whole=False)
        files = [
            await kept_of(reader, (entry.name,), entry, nodes)
            for entry in entries
            if isinstance(entry, File)
        ]
        packs = set(await _packs(reader, [chunk for file in files for chunk in file.chunks]))
        total, whole = len(files), all(file.whole for file in files)
        for entry in entries:
            if isinstance(entry, Folder):
                below = await self._each(reader, entry.tree)
                packs |= below.packs
                total += below.total
                whole = whole and below.whole
        return Reach(total, frozenset(packs), whole)


def _sum(reaches: list[Reach]) -> Reach:
    packs = frozenset[str]().union(*(reach.packs for reach in reaches))
    return Reach(sum(reach.total for reach in reaches), packs)


async def _add_packs(
    reader: EpochReader, own: dict[bytes, Reach], chunks: dict[bytes, list[bytes]]
) -> None:
    """To each node the packs that its chunks lie in; the chunks are done with then."""
    places = await reader.locate(list({chunk for ids in chunks.values() for chunk in ids}))
    for node_id, ids in chunks.items():
        packs = frozenset(places[chunk].pack_id for chunk in ids)
        own[node_id] = Reach(own[node_id].total, packs)
    chunks.clear()


async def _packs(reader: EpochReader, chunks: list[bytes]) -> frozenset[str]:
    ids = list(dict.fromkeys(chunks))
    found: set[str] = set()
    for start in range(0, len(ids), _LOCATED):
        places = await reader.locate(ids[start : start + _LOCATED])
        found |= {place.pack_id for place in places.values()}
    return frozenset(found)
