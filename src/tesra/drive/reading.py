"""Reading snapshots on the server: trees are walked and files streamed in bounded memory.

Every chunk that is opened here is verified twice: by its cipher and by the id of its content.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass, field

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
from tesra.storage.format import ChunkBroken, EpochKeys, open_chunk
from tesra.storage.packing import Place, Span, coalesce
from tesra.storage.tree import (
    MAX_DEPTH,
    MAX_ENTRIES,
    Entries,
    Entry,
    File,
    Folder,
    Link,
    NodeList,
    link_stays_inside,
    read_node,
    split_ids,
)

_NODES_AT_ONCE = 16  # of up to 2 MiB each
_CACHED_NODES = 64

Parts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TreeTotals:
    """What a tree amounts to; links count as files."""

    file_count: int
    size_bytes: int
    entries: int


@dataclass(slots=True)
class _Own:
    """One node's own entries, and the nodes below it as often as they occur."""

    file_count: int = 0
    size_bytes: int = 0
    entries: int = 0
    below: list[bytes] = field(default_factory=list)


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
        found = await self.locate(list(dict.fromkeys(ids)))
        places = [Place(c.chunk_id, c.pack_id, c.offset, c.length) for c in found.values()]
        content: dict[bytes, bytes] = {}
        for span in coalesce(places):
            try:
                content |= await self._opened(span, found)
            except ChunkBroken:
                await self._store.mend(span.pack)
                content |= await self._opened_again(span, found)
        return content

    async def chunk_ids(self, file: File) -> list[bytes]:
        """The content chunks of a file, in order."""
        if not file.listed:
            return list(file.chunks)
        ids: list[bytes] = []
        for part in file.chunks:
            ids += split_ids((await self.read([part]))[part])
        return ids

    async def entries(self, tree: bytes) -> AsyncIterator[Entry]:
        """What a folder holds, sorted."""
        node = read_node(await self._node_bytes(tree, ()))
        if isinstance(node, NodeList):
            for below in node.nodes:
                part = read_node(await self._node_bytes(below, ()))
                for entry in _entries(part):
                    yield entry
            return
        folders = [entry.tree for entry in node.entries if isinstance(entry, Folder)]
        position = 0
        for entry in node.entries:
            if isinstance(entry, Folder):
                ahead = folders[position : position + _NODES_AT_ONCE]
                await self._node_bytes(entry.tree, ahead, keep=True)
                position += 1
            yield entry

    async def walk(self, tree: bytes, above: Parts = ()) -> AsyncIterator[tuple[Parts, Entry]]:
        """Everything below, in order, each folder before what it holds."""
        async for entry in self.entries(tree):
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
    ) -> AsyncIterator[tuple[int, bytes, Entries | NodeList]]:
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
                batch, level = level[:_NODES_AT_ONCE], level[_NODES_AT_ONCE:]
                content = await self.read(batch)
                for node_id in batch:
                    node = read_node(content[node_id])
                    yield depth, node_id, node
                    target = level if isinstance(node, NodeList) else deeper
                    target += [b for b in _below(node) if b not in seen and b not in known]
                    seen.update(target)
                    if len(seen) > MAX_ENTRIES:
                        raise SnapshotUntrue(f"A snapshot has at most {MAX_ENTRIES:,} entries.")
            level, depth = list(dict.fromkeys(deeper)), depth + 1

    async def totals(self, root: bytes) -> TreeTotals:
        """What the tree amounts to, when every chunk that it names is stored and of its size.

        Raises ``SnapshotIncomplete`` or ``SnapshotUntrue``.
        """
        own: dict[bytes, _Own] = {}
        async for depth, node_id, node in self.nodes(root):
            own[node_id] = await self._own(node, depth)
        totals = _sum_up(root, own)
        if totals.entries > MAX_ENTRIES:
            raise SnapshotUntrue(f"A snapshot has at most {MAX_ENTRIES:,} entries.")
        return totals

    async def all_chunks(self, root: bytes) -> dict[bytes, StoredChunk]:
        """Where every chunk of the tree lies, its own nodes included."""
        ids: dict[bytes, None] = {}
        async for _, node_id, node in self.nodes(root):
            ids[node_id] = None
            for entry in _entries(node):
                if isinstance(entry, File):
                    ids.update(dict.fromkeys(entry.chunks))
                    if entry.listed:
                        ids.update(dict.fromkeys(await self.chunk_ids(entry)))
        return await self.locate(list(ids))

    async def _own(self, node: Entries | NodeList, depth: int) -> _Own:
        own = _Own(below=_below(node))
        files: list[tuple[File, list[bytes]]] = []
        for entry in _entries(node):
            own.entries += 1
            if isinstance(entry, Link) and not link_stays_inside(depth, entry.target):
                raise SnapshotUntrue(f"The link '{entry.name}' leads out of the snapshot.")
            if isinstance(entry, Folder):
                continue
            own.file_count += 1
            if isinstance(entry, File):
                own.size_bytes += entry.size
                files.append((entry, await self.chunk_ids(entry)))
        places = await self.locate(list(dict.fromkeys(i for _, ids in files for i in ids)))
        for file, ids in files:
            if file.inline is None and sum(places[i].plain_size for i in ids) != file.size:
                raise SnapshotUntrue(f"The file '{file.name}' is not of the size that it gives.")
        return own

    async def _opened_again(
        self, span: Span, places: dict[bytes, StoredChunk]
    ) -> dict[bytes, bytes]:
        try:
            return await self._opened(span, places)
        except ChunkBroken as error:  # the pack is what its id says: it was made so
            raise ContentUnreadable(way_out="Earlier versions: `tesra drive log`.") from error

    async def _opened(self, span: Span, places: dict[bytes, StoredChunk]) -> dict[bytes, bytes]:
        data = memoryview(await self._store.read(span.pack, span.start, span.end))

        async def opened(chunk_id: bytes) -> bytes:
            at = places[chunk_id].offset - span.start
            sealed = data[at : at + places[chunk_id].length]
            return await asyncio.to_thread(self._open, chunk_id, sealed)

        contents = await asyncio.gather(*map(opened, span.chunk_ids))
        return dict(zip(span.chunk_ids, contents, strict=True))

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

    def _open(self, chunk_id: bytes, sealed: memoryview) -> bytes:
        plain = open_chunk(self._keys.chunk_key(chunk_id), chunk_id, sealed)
        if self._keys.chunk_id(plain) != chunk_id:
            raise ChunkBroken(f"chunk {chunk_id.hex()} holds another content than its id says")
        return plain


def _entries(node: Entries | NodeList) -> tuple[Entry, ...]:
    return node.entries if isinstance(node, Entries) else ()


def _below(node: Entries | NodeList) -> list[bytes]:
    if isinstance(node, NodeList):
        return list(node.nodes)
    return [entry.tree for entry in node.entries if isinstance(entry, Folder)]


def _sum_up(root: bytes, own: dict[bytes, _Own]) -> TreeTotals:
    """Children before parents; a node that occurs twice counts twice but is added up once."""
    done: dict[bytes, TreeTotals] = {}
    stack = [root]
    while stack:
        node = own[stack[-1]]
        open_below = [below for below in node.below if below not in done]
        if open_below:
            stack += open_below
            continue
        below = [done[child] for child in node.below]
        done[stack.pop()] = TreeTotals(
            node.file_count + sum(total.file_count for total in below),
            node.size_bytes + sum(total.size_bytes for total in below),
            node.entries + sum(total.entries for total in below),
        )
    return done[root]
