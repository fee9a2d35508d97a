"""Reading snapshots on the server: trees are walked and files streamed in bounded memory.

Every chunk that is opened here is verified twice: by its cipher and by the id of its content.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tesra.db.engine import Database
from tesra.drive.model import (
    ContentUnreadable,
    FileUnknown,
    SnapshotIncomplete,
    SnapshotUntrue,
    StoredChunk,
)
from tesra.drive.pack_store import PackStore
from tesra.drive.repository import DriveRepository
from tesra.kit.ids import EpochId
from tesra.storage.census import Census, take_census
from tesra.storage.format import ChunkBroken, EpochKeys, open_chunk_within
from tesra.storage.packing import Place, Span, coalesce
from tesra.storage.tree import (
    MAX_DEPTH,
    MAX_ENTRIES,
    Entries,
    Entry,
    File,
    Folder,
    NodeList,
    link_stays_inside,
    read_node,
    split_ids,
)

_NODES_AHEAD = 16  # of up to 2 MiB each
_CACHED_NODES = 64
_CENSUS_NODES = 256  # located at once; what is left of each is small
_SPANS_AT_ONCE = 2  # of up to 8 MiB each

Parts = tuple[str, ...]
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class TreeTotals:
    """What a tree amounts to; links count as files."""

    file_count: int
    size_bytes: int
    entries: int


class EpochReader:
    """The chunks of one epoch; made for one request."""

    def __init__(
        self, database: Database, repository: DriveRepository, store: PackStore, keys: EpochKeys
    ) -> None:
        self._database = database
        self._repository = repository
        self._store = store
        self._keys = keys
        self._epoch = EpochId(keys.id)
        self._cache: dict[bytes, bytes] = {}
        self._opening = asyncio.Semaphore(_SPANS_AT_ONCE)

    @property
    def keys(self) -> EpochKeys:
        """The epoch's keys."""
        return self._keys

    async def locate(self, ids: Sequence[bytes]) -> dict[bytes, StoredChunk]:
        """Where the chunks lie; raises ``SnapshotIncomplete`` when one does not."""
        if not ids:
            return {}
        async with self._database.begin() as tx:
            found = await self._repository.chunks(tx, self._epoch, ids)
        missing = next((chunk for chunk in ids if chunk not in found), None)
        if missing is not None:
            raise SnapshotIncomplete(f"The drive does not hold the chunk {missing.hex()}.")
        return found

    async def read(self, ids: Iterable[bytes]) -> dict[bytes, bytes]:
        """The content of a few chunks."""
        return await self._made(ids, bytes)

    async def _made(
        self, ids: Iterable[bytes], make: Callable[[bytes | memoryview], Made]
    ) -> dict[bytes, Made]:
        """What ``make`` makes of the content of a few chunks; it must not keep what it is given."""
        found = await self.locate(list(dict.fromkeys(ids)))
        places = [Place(c.chunk_id, c.pack_id, c.offset, c.length) for c in found.values()]
        parts = await asyncio.gather(
            *(self._of_span(span, found, make) for span in coalesce(places))
        )
        return {chunk_id: made for part in parts for chunk_id, made in part.items()}

    async def _of_span(
        self,
        span: Span,
        places: dict[bytes, StoredChunk],
        make: Callable[[bytes | memoryview], Made],
    ) -> dict[bytes, Made]:
        for again in (False, True):
            try:
                async with self._opening:
                    data = memoryview(await self._store.read(span.pack, span.start, span.end))
                    return await asyncio.to_thread(self._opened, span, data, places, make)
            except ChunkBroken as error:
                if again:  # the pack is what its id says: it was made so
                    raise ContentUnreadable(
                        way_out="Earlier versions: `tesra drive log`."
                    ) from error
            await self._store.mend(span.pack)
        raise AssertionError("it was read twice")  # pragma: no cover

    async def chunk_ids(self, file: File) -> list[bytes]:
        """The content chunks of a file, in order."""
        if not file.listed:
            return list(file.chunks)
        ids: list[bytes] = []
        for part in file.chunks:
            ids += split_ids((await self.read([part]))[part])
        return ids

    async def entries(self, tree: bytes, *, ahead: bool = False) -> AsyncIterator[Entry]:
        """What a folder holds, sorted; ``ahead`` of who goes into its folders, these are read."""
        node = read_node(await self._node_bytes(tree, ()))
        if isinstance(node, NodeList):
            for below in node.nodes:
                part = read_node(await self._node_bytes(below, ()))
                for entry in _entries(part):
                    yield entry
            return
        folders = [entry.tree for entry in node.entries if ahead and isinstance(entry, Folder)]
        position = 0
        for entry in node.entries:
            if ahead and isinstance(entry, Folder):
                following = folders[position : position + _NODES_AHEAD]
                await self._node_bytes(entry.tree, following, keep=True)
                position += 1
            yield entry

    async def walk(self, tree: bytes, above: Parts = ()) -> AsyncIterator[tuple[Parts, Entry]]:
        """Everything below, in order, each folder before what it holds."""
        async for entry in self.entries(tree, ahead=True):
            parts = (*above, entry.name)
            yield parts, entry
            if isinstance(entry, Folder):
                async for below in self.walk(entry.tree, parts):
                    yield below

    async def find(self, tree: bytes, path: str) -> Entry:
        """The entry at a path; raises ``FileUnknown``."""
        found: Entry | None = None
        for name in path.split("/"):
            if found is not None:
                if not isinstance(found, Folder):
                    raise FileUnknown(f"There is no file '{path[:200]}' in the snapshot.")
                tree = found.tree
            found = None
            async for entry in self.entries(tree):
                if entry.name == name:
                    found = entry
                    break
            if found is None:
                raise FileUnknown(f"There is no file '{path[:200]}' in the snapshot.")
        assert found is not None  # a path has a part
        return found

    async def content(self, file: File, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes ``start`` up to (not with) ``end`` of a file, a chunk at a time."""
        if file.inline is not None:
            yield file.inline[start:end]
            return
        ids = await self.chunk_ids(file)
        places = await self.locate(ids)
        position = 0
        for chunk_id in ids:
            size = places[chunk_id].plain_size
            if position < end and position + size > start:
                plain = (await self.read([chunk_id]))[chunk_id]
                yield plain[max(0, start - position) : end - position]
            position += size

    async def nodes(
        self, root: bytes, *, known: Collection[bytes] = ()
    ) -> AsyncIterator[tuple[int, bytes, Census]]:
        """Each different node once, with its smallest depth, level by level; not those that are
        ``known`` (and may become so while this goes on), nor what is below them."""
        seen = {root}
        level = [root]
        depth = 0
        while level:
            if depth > MAX_DEPTH:
                raise SnapshotUntrue(f"Folders are nested more than {MAX_DEPTH} deep.")
            deeper: list[bytes] = []
            while level:
                batch, level = level[:_CENSUS_NODES], level[_CENSUS_NODES:]
                found = await self._made(batch, take_census)
                for node_id in batch:
                    node = found[node_id]
                    yield depth, node_id, node
                    target = level if node.listed else deeper
                    target += [b for b in node.below if b not in seen and b not in known]
                    seen.update(target)
                    if len(seen) > MAX_ENTRIES:
                        raise SnapshotUntrue(f"A snapshot has at most {MAX_ENTRIES:,} entries.")
            level, depth = list(dict.fromkeys(deeper)), depth + 1

    async def totals(self, root: bytes) -> TreeTotals:
        """What the tree amounts to, when every chunk that it names is stored and of its size.

        Raises ``SnapshotIncomplete`` or ``SnapshotUntrue``.
        """
        nodes: dict[bytes, TreeTotals] = {}
        below: dict[bytes, list[bytes]] = {}
        async for depth, node_id, node in self.nodes(root):
            await self._check(node, depth)
            nodes[node_id] = TreeTotals(node.file_count, node.size_bytes, node.entries)
            below[node_id] = node.below
        totals = _sum_up(root, nodes, below)
        if totals.entries > MAX_ENTRIES:
            raise SnapshotUntrue(f"A snapshot has at most {MAX_ENTRIES:,} entries.")
        return totals

    async def all_chunks(self, root: bytes) -> dict[bytes, StoredChunk]:
        """Where every chunk of the tree lies, its own nodes included."""
        ids: dict[bytes, None] = {}
        async for _, node_id, node in self.nodes(root):
            ids[node_id] = None
            ids.update(dict.fromkeys(await self.content_ids(node)))
        return await self.locate(list(ids))

    async def content_ids(self, node: Census) -> list[bytes]:
        """Every chunk that the files of a node need, those that list chunks too."""
        ids: list[bytes] = []
        for file in node.chunked:
            ids += file.chunks
            if file.listed:
                ids += await self.chunk_ids(file)
        return ids

    async def _check(self, node: Census, depth: int) -> None:
        """Refuse links that lead out, and files of another size than their chunks have."""
        for link in node.links:
            if not link_stays_inside(depth, link.target):
                raise SnapshotUntrue(f"The link '{link.name}' leads out of the snapshot.")
        files = [(file, await self.chunk_ids(file)) for file in node.chunked]
        places = await self.locate(list(dict.fromkeys(i for _, ids in files for i in ids)))
        for file, ids in files:
            if sum(places[i].plain_size for i in ids) != file.size:
                raise SnapshotUntrue(f"The file '{file.name}' is not of the size that it gives.")

    def _opened(
        self,
        span: Span,
        data: memoryview,
        places: dict[bytes, StoredChunk],
        make: Callable[[bytes | memoryview], Made],
    ) -> dict[bytes, Made]:
        opened: dict[bytes, Made] = {}
        for chunk_id in span.chunk_ids:
            at = places[chunk_id].offset - span.start
            sealed = data[at : at + places[chunk_id].length]
            plain = open_chunk_within(self._keys.chunk_key(chunk_id), chunk_id, sealed)
            if self._keys.chunk_id(plain) != chunk_id:
                raise ChunkBroken(f"chunk {chunk_id.hex()} holds another content than its id says")
            opened[chunk_id] = make(plain)
        return opened

    async def _node_bytes(
        self, node_id: bytes, ahead: Sequence[bytes], *, keep: bool = False
    ) -> bytes:
        """A node's bytes; those ``ahead`` are read along, as they are wanted next."""
        plain = self._cache.get(node_id) if keep else self._cache.pop(node_id, None)
        if plain is None:
            wanted = dict.fromkeys((node_id, *ahead))
            content = await self.read(wanted)
            plain = content[node_id]
            if keep or len(content) > 1:
                self._cache.update(content)
            while len(self._cache) > _CACHED_NODES:
                del self._cache[next(iter(self._cache))]
        return plain


def _entries(node: Entries | NodeList) -> tuple[Entry, ...]:
    return node.entries if isinstance(node, Entries) else ()


def fold_up(
    root: bytes,
    below: Mapping[bytes, Sequence[bytes]],
    made: Callable[[bytes, list[Made]], Made],
    *,
    known: Mapping[bytes, Made],
) -> dict[bytes, Made]:
    """What ``made`` makes of each node and of what came out of those below it, children first.

    A node that occurs twice is made once, and given to its parents as often as it occurs; what is
    ``known`` already is taken from there.
    """
    done: dict[bytes, Made] = {}
    stack = [root]
    while stack:
        top = stack[-1]
        open_below = [child for child in below[top] if child not in done and child not in known]
        if open_below:
            stack += open_below
            continue
        parts = [done[child] if child in done else known[child] for child in below[top]]
        done[stack.pop()] = made(top, parts)
    return done


def _sum_up(
    root: bytes, own: dict[bytes, TreeTotals], below: dict[bytes, list[bytes]]
) -> TreeTotals:
    def made(node: bytes, parts: list[TreeTotals]) -> TreeTotals:
        parts = [own[node], *parts]
        return TreeTotals(
            sum(part.file_count for part in parts),
            sum(part.size_bytes for part in parts),
            sum(part.entries for part in parts),
        )

    return fold_up(root, below, made, known={})[root]
