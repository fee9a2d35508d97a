"""Chunks of a private drive on its owner's device: opened here, sealed here, checked twice."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tesra.sdk.fetch import fetch_planned
from tesra.sdk.private.door import PrivateDoor
from tesra.storage.editing import TreeEditor
from tesra.storage.format import MAX_CHUNK_BYTES, ChunkBroken, EpochKeys, open_chunk, seal_chunk
from tesra.storage.keychain import Keychain
from tesra.storage.packing import Pack, Place, coalesce
from tesra.storage.progress import Report
from tesra.storage.sending import ChunkSender
from tesra.storage.tree import (
    MAX_ENTRIES,
    Entries,
    Entry,
    File,
    Folder,
    NodeList,
    TreeBroken,
    read_node,
    split_ids,
)
from tesra.wire.drive import ChunkAt, ReadPlan
from tesra.wire.private import SealedAt

_AT_ONCE = 1_000  # chunks, of so many bytes together
_BYTES_AT_ONCE = 16 * 2**20
_CACHED_BYTES = 16 * 2**20
_ROOT_PACK = "0" * 64  # of the one node that only this plan has


class NodeCache:
    """Opened nodes by their ids, the newest few: what an id names never changes."""

    def __init__(self) -> None:
        self._plain: dict[bytes, bytes] = {}
        self._size = 0

    def get(self, node_id: bytes) -> bytes | None:
        return self._plain.get(node_id)

    def put(self, node_id: bytes, plain: bytes) -> None:
        if node_id in self._plain:
            return
        self._plain[node_id] = plain
        self._size += len(plain)
        while self._size > _CACHED_BYTES:
            self._size -= len(self._plain.pop(next(iter(self._plain))))


class SealedReader:
    """Content by chunk id, whatever epoch it was sealed in; one for each piece of work."""

    def __init__(self, door: PrivateDoor, chain: Keychain, cache: NodeCache) -> None:
        self._door = door
        self._chain = chain
        self._cache = cache
        self._places: dict[bytes, SealedAt] = {}

    def places(self, ids: Iterable[bytes]) -> dict[bytes, SealedAt]:
        """Where the chunks lie; raises ``ChunkBroken`` when one does not."""
        wanted = list(dict.fromkeys(ids))
        self._places |= self._door.locate(one for one in wanted if one not in self._places)
        lost = next((one for one in wanted if one not in self._places), None)
        if lost is not None:
            raise ChunkBroken(f"The drive does not hold the chunk {lost.hex()} any more.")
        return {one: self._places[one] for one in wanted}

    def portions(self, ids: Iterable[bytes]) -> Iterator[list[bytes]]:
        """The ids in groups that fit into memory together."""
        portion: list[bytes] = []
        size = 0
        for chunk_id, at in self.places(ids).items():
            if portion and (len(portion) == _AT_ONCE or size + at.size > _BYTES_AT_ONCE):
                yield portion
                portion, size = [], 0
            portion.append(chunk_id)
            size += at.size
        if portion:
            yield portion

    def read(self, ids: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Id and content of each chunk once, in the order of the packs."""
        found = self.places(ids)
        places = [Place(one, at.pack, at.offset, at.length) for one, at in found.items()]
        for span in coalesce(places):
            data = memoryview(self._door.read_pack(span.pack, span.start, span.end))
            for chunk_id in span.chunk_ids:
                at = found[chunk_id]
                start = at.offset - span.start
                yield chunk_id, self._open(chunk_id, at, data[start : start + at.length])

    def one(self, chunk_id: bytes) -> bytes:
        return next(self.read([chunk_id]))[1]

    def node(self, node_id: bytes) -> bytes:
        """As ``one``, and remembered."""
        plain = self._cache.get(node_id)
        if plain is None:
            plain = self.one(node_id)
            self._cache.put(node_id, plain)
        return plain

    def key_of(self, chunk_id: bytes, at: SealedAt) -> bytes:
        """The key that opens just this chunk."""
        return self._keys(at.epoch).chunk_key(chunk_id)

    def names_of(self, epochs: set[str]) -> EpochKeys | None:
        """The keys that name chunks, when one epoch has them all."""
        return self._keys(next(iter(epochs))) if len(epochs) == 1 else None

    def _keys(self, epoch: str) -> EpochKeys:
        keys = self._chain.keys_of(epoch)
        if keys is None:
            raise ChunkBroken(f"The drive's keys know no epoch {epoch}.")
        return keys

    def _open(self, chunk_id: bytes, at: SealedAt, sealed: memoryview) -> bytes:
        keys = self._keys(at.epoch)
        plain = open_chunk(keys.chunk_key(chunk_id), chunk_id, sealed)
        if keys.chunk_id(plain) != chunk_id:
            raise ChunkBroken(f"chunk {chunk_id.hex()} holds another content than its id says")
        return plain


class Workshop:
    """One change of the tree: an editor, and what it makes sent off under the newest epoch."""

    def __init__(self, door: PrivateDoor, chain: Keychain, cache: NodeCache) -> None:
        self._door = door
        self._cache = cache
        self._reader = SealedReader(door, chain, cache)
        self._fresh: dict[bytes, bytes] = {}
        self._named: set[bytes] = set()
        self.keys = chain.newest.keys
        self.editor = TreeEditor(self._read, self._keep)

    def missing(self, ids: list[bytes]) -> set[bytes]:
        """As a pack sink; what is asked for is what the new version names."""
        self._named.update(ids)
        return self._door.missing(self.keys.id, ids)

    def put_pack(self, pack: Pack) -> None:
        self._door.put_pack(self.keys.id, pack)

    def store(self) -> set[str]:
        """All that was made is stored when this returns; the packs that it lies in."""
        with ChunkSender(self, self.keys) as sender:
            for plain in self._fresh.values():
                sender.offer(plain)
            sender.finish()
        for node_id, plain in self._fresh.items():
            self._cache.put(node_id, plain)
        return {at.pack for at in self._reader.places(self._named).values()}

    def _read(self, node_id: bytes) -> bytes:
        fresh = self._fresh.get(node_id)
        return fresh if fresh is not None else self._reader.node(node_id)

    def _keep(self, plain: bytes) -> bytes:
        node_id = self.keys.chunk_id(plain)
        self._fresh[node_id] = plain
        return node_id


def walk(
    reader: SealedReader, tree: bytes, above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Entry]]:
    """Everything below a folder, level by level; many nodes are read at once."""
    level: dict[bytes, list[tuple[str, ...]]] = {tree: [above]}
    count = 0
    while level:
        deeper: dict[bytes, list[tuple[str, ...]]] = {}
        for portion in reader.portions(level):
            plain = dict(reader.read(portion))
            for node_id in portion:
                node = read_node(plain[node_id])
                for parts in level[node_id]:
                    if isinstance(node, NodeList):
                        for below in node.nodes:
                            deeper.setdefault(below, []).append(parts)
                        continue
                    for entry in node.entries:
                        count += 1
                        if count > MAX_ENTRIES:
                            raise TreeBroken(f"more than {MAX_ENTRIES:,} entries")
                        yield (*parts, entry.name), entry
                        if isinstance(entry, Folder):
                            deeper.setdefault(entry.tree, []).append((*parts, entry.name))
        level = deeper


def all_chunks(reader: SealedReader, roots: Iterable[bytes]) -> set[bytes]:
    """Every chunk that these trees need, their own nodes included; each node is read once."""
    seen = set(roots)
    level = list(seen)
    while level:
        deeper: dict[bytes, None] = {}
        for portion in reader.portions(level):
            lists: list[bytes] = []
            for _, plain in reader.read(portion):
                node = read_node(plain)
                below = list(node.nodes) if isinstance(node, NodeList) else []
                if isinstance(node, Entries):
                    below += [entry.tree for entry in node.entries if isinstance(entry, Folder)]
                    files = [entry for entry in node.entries if isinstance(entry, File)]
                    seen.update(chunk for file in files for chunk in file.chunks)
                    lists += [chunk for file in files if file.listed for chunk in file.chunks]
                deeper |= dict.fromkeys(one for one in below if one not in seen)
                seen.update(below)
            for _, plain in reader.read(lists):
                seen.update(split_ids(plain))
        level = list(deeper)
    return seen


def file_ids(reader: SealedReader, file: File) -> list[bytes]:
    """The content chunks of a file, in order."""
    if not file.listed:
        return list(file.chunks)
    lists = dict(reader.read(file.chunks))
    return [chunk for part in file.chunks for chunk in split_ids(lists[part])]


def fetch_tree(
    door: PrivateDoor, chain: Keychain, entry: Entry, dest: Path, report: Report
) -> None:
    """Bring a folder's content into ``dest``, or a file or link into it under its own name."""
    reader = SealedReader(door, chain, NodeCache())
    source: PrivateDoor | _WithRoot = door
    chunks: dict[str, ChunkAt] = {}
    if isinstance(entry, Folder):
        root = entry.tree
        needed = all_chunks(reader, [root])
    else:
        keys = chain.newest.keys
        fresh: dict[bytes, bytes] = {}

        def keep(plain: bytes) -> bytes:
            fresh[keys.chunk_id(plain)] = plain
            return keys.chunk_id(plain)

        root = TreeEditor(reader.one, keep).alone(entry)
        sealed = seal_chunk(keys.chunk_key(root), root, fresh[root]).sealed
        source = _WithRoot(door, sealed)
        chunks[root.hex()] = ChunkAt(
            pack=_ROOT_PACK,
            offset=0,
            length=len(sealed),
            size=len(fresh[root]),
            key=keys.chunk_key(root).hex(),
        )
        needed = set()
        if isinstance(entry, File):
            needed = {*entry.chunks, *file_ids(reader, entry)}
    places = reader.places(needed)
    for chunk_id, at in places.items():
        chunks[chunk_id.hex()] = ChunkAt(
            pack=at.pack,
            offset=at.offset,
            length=at.length,
            size=min(at.size, MAX_CHUNK_BYTES),
            key=reader.key_of(chunk_id, at).hex(),
        )
    names = reader.names_of({at.epoch for at in places.values()} | _own_epoch(entry, chain))
    plan = ReadPlan(
        snapshot=chain.drive,
        root=root.hex(),
        id_key=names.id_key.hex() if names else None,
        chunks=chunks,
    )
    fetch_planned(source, plan, dest, report)


def _own_epoch(entry: Entry, chain: Keychain) -> set[str]:
    return set() if isinstance(entry, Folder) else {chain.newest.keys.id}


class _WithRoot:
    """A door that has one more pack: the node that was made for this download alone."""

    def __init__(self, door: PrivateDoor, root: bytes) -> None:
        self._door = door
        self._root = root

    def read_pack(self, pack_id: str, start: int, end: int) -> bytes:
        if pack_id == _ROOT_PACK:
            return self._root[start:end]
        return self._door.read_pack(pack_id, start, end)

    def read_again(self, pack_id: str, start: int, end: int) -> bytes:
        if pack_id == _ROOT_PACK:
            return self._root[start:end]
        return self._door.read_again(pack_id, start, end)
