"""A snapshot comes down: ranges of packs in parallel, every chunk verified, in bounded memory.

The tree is not trusted: names were checked by ``storage.tree``, links are checked here, and
``Landing`` touches nothing outside of the destination.
"""

import os
import threading
from collections import deque
from collections.abc import Container, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from blake3 import blake3

from tesra.sdk.clashes import Clashes, name_form
from tesra.sdk.landing import PARTS_NAME, Landing, Parts, landing
from tesra.storage.chunking import cut_stream
from tesra.storage.format import ChunkBroken, EpochKeys, open_chunk_within
from tesra.storage.packing import Place, Span, coalesce
from tesra.storage.progress import Progress, Report
from tesra.storage.tree import (
    MAX_DEPTH,
    MAX_ENTRIES,
    Entries,
    Entry,
    File,
    Folder,
    Link,
    NameRefused,
    NodeList,
    TreeBroken,
    content_id,
    link_stays_inside,
    read_node,
    split_ids,
)
from tesra.wire.drive import ChunkAt, ReadPlan

_JOB_BYTES = 16 * 2**20  # a request costs the server about as much as 4 MiB of it
_NODES_BYTES = 4 * 2**20
_WORKERS = 4
_JOBS_IN_FLIGHT = 5
_Nodes = deque[tuple[Parts, bytes]]


class PackSource(Protocol):
    """Where ranges of packs come from; called from several threads."""

    def read_pack(self, pack_id: str, start: int, end: int) -> bytes:
        """Bytes ``start`` up to (not with) ``end``."""
        ...

    def read_again(self, pack_id: str, start: int, end: int) -> bytes:
        """The same, after bytes that were not what the pack holds."""
        ...


def fetch_planned(
    source: PackSource,
    plan: ReadPlan,
    dest: Path,
    report: Report,
    *,
    chosen: Container[Parts] | None = None,
    name: str | None = None,
) -> None:
    """Bring what ``plan`` describes into ``dest``; of its files and links the ``chosen`` alone.

    ``name``: how the plan's only file is called there; nothing of the name that it has in the
    plan is looked at or touched.
    """
    with landing(dest) as place, ThreadPoolExecutor(_WORKERS, "fetch") as pool:
        try:
            _Fetch(_Chunks(source, plan), place, pool, report).run(chosen, name)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def planned_entries(source: PackSource, plan: ReadPlan) -> Iterator[tuple[Parts, Entry]]:
    """All that ``plan`` describes, each folder before what it holds; contents are not read."""
    with ThreadPoolExecutor(1, "fetch") as pool:
        yield from _walked(_Chunks(source, plan), pool)


class _Chunks:
    """Verified plain chunks of one plan."""

    def __init__(self, source: PackSource, plan: ReadPlan) -> None:
        self._source = source
        self._plan = plan
        id_key = bytes.fromhex(plan.id_key) if plan.id_key else None
        self._names = EpochKeys(plan.snapshot, id_key, b"") if id_key else None
        self.root = bytes.fromhex(plan.root)

    def at(self, chunk_id: bytes) -> ChunkAt:
        try:
            return self._plan.chunks[chunk_id.hex()]
        except KeyError as error:
            raise TreeBroken(f"chunk {chunk_id.hex()} is not in the plan") from error

    def read(self, ids: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Id and content of each chunk once, in the order of the packs."""
        for chunk_id, plain in self.pass_through(ids):
            yield chunk_id, bytes(plain)

    def pass_through(self, ids: Iterable[bytes]) -> Iterator[tuple[bytes, bytes | memoryview]]:
        """The same for one thread; a content is good until the next is asked for."""
        places = []
        for chunk_id in dict.fromkeys(ids):
            at = self.at(chunk_id)
            places.append(Place(chunk_id, at.pack, at.offset, at.length))
        for span in coalesce(places, span_bytes=_JOB_BYTES):
            yield from self._opened(span)

    def _opened(self, span: Span) -> Iterator[tuple[bytes, bytes | memoryview]]:
        data = memoryview(self._source.read_pack(span.pack, span.start, span.end))
        again = False
        for chunk_id in span.chunk_ids:
            at = self.at(chunk_id)
            here = slice(at.offset - span.start, at.offset - span.start + at.length)
            try:
                plain = self._open(chunk_id, at, data[here])
            except ChunkBroken:  # a copy has gone bad: the server looks, and brings a good one
                if again:
                    raise
                again = True
                data = memoryview(self._source.read_again(span.pack, span.start, span.end))
                plain = self._open(chunk_id, at, data[here])
            yield chunk_id, plain

    def matches(self, file: File, content: Iterator[bytes]) -> bool:
        """Whether content cut anew gives the file's chunks; never without the names' key."""
        if self._names is None:
            return False
        names = self._names
        ids = iter(self.ids_of(file))
        return all(names.chunk_id(plain) == next(ids, None) for plain in content) and (
            next(ids, None) is None
        )

    def stands_at(self, grown: BinaryIO, offset: int, chunk_id: bytes) -> bool:
        """Whether the chunk is there in a file; never without the names' key."""
        if self._names is None:
            return False
        plain = os.pread(grown.fileno(), self.at(chunk_id).size, offset)
        return self._names.chunk_id(plain) == chunk_id

    def ids_of(self, file: File) -> list[bytes]:
        """The content chunks of a file, in order."""
        if not file.listed:
            return list(file.chunks)
        lists = dict(self.read(file.chunks))
        return [chunk for part in file.chunks for chunk in split_ids(lists[part])]

    def _open(self, chunk_id: bytes, at: ChunkAt, sealed: memoryview) -> bytes | memoryview:
        plain = open_chunk_within(bytes.fromhex(at.key), chunk_id, sealed)
        if len(plain) != at.size:
            raise ChunkBroken(f"chunk {chunk_id.hex()} has another size than planned")
        if self._names is not None and self._names.chunk_id(plain) != chunk_id:
            raise ChunkBroken(f"chunk {chunk_id.hex()} holds another content than its id says")
        return plain


def _walked(chunks: _Chunks, pool: ThreadPoolExecutor) -> Iterator[tuple[Parts, Entry]]:
    """Every entry of the tree, each folder before what it holds; the next nodes are read meanwhile."""
    waiting: _Nodes = deque([((), chunks.root)])
    reading = _read_ahead(chunks, waiting, pool)
    count = 0
    while reading is not None:
        batch, plain = reading.result()
        found: list[tuple[Parts, Entry]] = []
        for above, node_id in batch:
            node = read_node(plain[node_id])
            if isinstance(node, NodeList):
                waiting.extend((above, below) for below in node.nodes)
                count += len(node.nodes)
            for entry in node.entries if isinstance(node, Entries) else ():
                parts = (*above, entry.name)
                if parts == (PARTS_NAME,) or len(parts) > MAX_DEPTH + 1:
                    raise NameRefused(f"'{'/'.join(parts)[:80]}' can't be made here")
                if isinstance(entry, Folder):
                    waiting.append((parts, entry.tree))
                count += 1
                found.append((parts, entry))
            if count > MAX_ENTRIES:
                raise TreeBroken(f"more than {MAX_ENTRIES:,} entries")
        reading = _read_ahead(chunks, waiting, pool)
        yield from found


def _read_ahead(
    chunks: _Chunks, waiting: _Nodes, pool: ThreadPoolExecutor
) -> "Future[tuple[list[tuple[Parts, bytes]], dict[bytes, bytes]]] | None":
    """Begin to read the next nodes; None when there are none."""
    if not waiting:
        return None
    batch = _next_nodes(chunks, waiting)
    return pool.submit(lambda: (batch, dict(chunks.read(node for _, node in batch))))


def _next_nodes(chunks: _Chunks, waiting: _Nodes) -> list[tuple[Parts, bytes]]:
    batch = [waiting.popleft()]
    size = chunks.at(batch[0][1]).size
    while waiting and size < _NODES_BYTES:
        size += chunks.at(waiting[0][1]).size
        batch.append(waiting.popleft())
    return batch


@dataclass(slots=True)
class _Target:
    """A file on its way: ``left`` chunks are still to be written to ``part``."""

    parts: Parts
    executable: bool
    left: int
    part: str
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(slots=True)
class _Job:
    """Chunks to read together, and where in which files each belongs."""

    pieces: dict[bytes, list[tuple[_Target, int]]] = field(default_factory=dict)
    size: int = 0


class _Fetch:
    """One walk over the tree; small files are written at once, large ones by the workers."""

    def __init__(
        self, chunks: _Chunks, place: Landing, pool: ThreadPoolExecutor, report: Report
    ) -> None:
        self._chunks = chunks
        self._place = place
        self._clashes = Clashes(place.dest, name_form(place.dest / PARTS_NAME))
        self._pool = pool
        self._report = report
        self._job = _Job()
        self._running: deque[Future[tuple[int, int]]] = deque()
        self._done_files = 0
        self._done_bytes = 0
        self._moved_bytes = 0

    def run(self, chosen: Container[Parts] | None = None, name: str | None = None) -> None:
        for parts, entry in _walked(self._chunks, self._pool):
            if chosen is not None and parts not in chosen:
                continue
            wanted = parts if name is None else (name,)
            if not self._clashes.leaves_out(wanted):
                self._land(wanted, entry)
        self._submit()
        while self._running:
            self._reap()
        self._clashes.tell()

    def _land(self, parts: Parts, entry: Entry) -> None:
        match entry:
            case Folder():
                self._place.make_folder(parts)
            case Link():
                if not link_stays_inside(len(parts) - 1, entry.target):
                    raise NameRefused(f"the link '{'/'.join(parts)}' leads out of the snapshot")
                self._place.link(parts, entry.target)
                self._tell(parts, files=1)
            case File(inline=bytes() as content):
                self._place.write(parts, content, executable=entry.executable)
                self._tell(parts, files=1, size=len(content))
            case File():
                self._start(parts, entry)

    def _start(self, parts: Parts, file: File) -> None:
        with self._place.existing(parts, file.size) as there:
            if there is not None and self._chunks.matches(file, cut_stream(there)):
                self._tell(parts, files=1, size=file.size)
                return
        ids = self._chunks.ids_of(file)
        if sum(self._chunks.at(chunk_id).size for chunk_id in ids) != file.size:
            raise TreeBroken(f"'{'/'.join(parts)}' has chunks of another size than its own")
        self._queue(_Target(parts, file.executable, 0, _part_of(parts, file)), ids, file.size)

    def _queue(self, target: _Target, ids: list[bytes], size: int) -> None:
        """Ask for what the growing file lacks: another download may have brought some of it."""
        lacking, offset = list[tuple[bytes, int]](), 0
        with self._place.grown(target.part, size) as grown:
            for chunk_id in ids:
                if grown is None or not self._chunks.stands_at(grown, offset, chunk_id):
                    lacking.append((chunk_id, offset))
                offset += self._chunks.at(chunk_id).size
        there = size - sum(self._chunks.at(chunk_id).size for chunk_id, _ in lacking)
        target.left = len(lacking)
        if not lacking:
            self._place.settle(target.part, target.parts, executable=target.executable)
        if there:
            self._tell(target.parts, files=int(not lacking), size=there)
        for chunk_id, at in lacking:
            self._job.pieces.setdefault(chunk_id, []).append((target, at))
            self._job.size += self._chunks.at(chunk_id).size
            if self._job.size >= _JOB_BYTES:
                self._submit()

    def _submit(self) -> None:
        if self._job.pieces:
            while len(self._running) >= _JOBS_IN_FLIGHT:
                self._reap()
            self._running.append(self._pool.submit(self._do, self._job))
            self._job = _Job()

    def _reap(self) -> None:
        files, size = self._running.popleft().result()
        self._moved_bytes += size
        self._tell((), files=files, size=size)

    def _do(self, job: _Job) -> tuple[int, int]:
        """Write one job's chunks; the one that writes a file's last chunk moves it into place."""
        files = size = 0
        for chunk_id, plain in self._chunks.pass_through(job.pieces):
            for target, offset in job.pieces[chunk_id]:
                with target.lock:  # the kernel lets one writer into a file: others wait asleep
                    self._place.write_part(target.part, offset, plain)
                    target.left -= 1
                    last = target.left == 0
                size += len(plain)
                if last:
                    self._place.settle(target.part, target.parts, executable=target.executable)
                    files += 1
        return files, size

    def _tell(self, parts: Parts, *, files: int = 0, size: int = 0) -> None:
        self._done_files += files
        self._done_bytes += size
        self._report(
            Progress(self._done_files, self._done_bytes, self._moved_bytes, path="/".join(parts))
        )


def _part_of(parts: Parts, file: File) -> str:
    """Where the file grows: the next download of just this content to this path finds it there."""
    return blake3(content_id(file) + "/".join(parts).encode()).hexdigest()
