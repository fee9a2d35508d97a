"""Chunks on their way out: ask which are missing, seal those, pack them, hand the packs over.

A pipeline of bounded stages on a few threads; hashing, sealing and sending overlap. Where windows
were known to the other side, the next ones keep where their chunks lie instead of the bytes, so
that one question covers thousands and an unchanged folder costs its hashing alone.
"""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from tesra.kit.errors import Conflict
from tesra.storage.format import EpochKeys, SealedChunk, seal_chunk
from tesra.storage.packing import LARGE_PACK_BYTES, TARGET_PACK_BYTES, Pack, PackBuilder

_FIRST_WINDOW_BYTES = 4 * 2**20  # soon it is known whether there is anything new
_WINDOW_BYTES = 16 * 2**20  # a question costs the other side about as much as hashing 10 MiB
_WINDOW_CHUNKS = 2000
_WINDOWS_IN_FLIGHT = 1
_SEALING_BYTES = 4 * 2**20
_DOUBLED_AFTER = (4, 12)  # packs: the longer an upload, the larger; a short one ends soon
_PACKS_IN_FLIGHT = 4
_LEAN_BELOW = 0.05  # share of missing chunks under which the next window keeps no bytes


@dataclass(frozen=True, slots=True)
class Pace:
    """How much is on its way at once, and how large packs become when an upload is long."""

    in_flight_bytes: int
    pack_bytes: int


CLIENT_PACE = Pace(136 * 2**20, LARGE_PACK_BYTES)  # a pack waits for its second holder: others go
SERVER_PACE = Pace(32 * 2**20, TARGET_PACK_BYTES)  # a server's memory is for all of its users


class FileChanged(Conflict):
    """A file changed while it was being read."""


class PackSink(Protocol):
    """Where packs go; calls come from several threads at once, and may be repeated."""

    def missing(self, ids: list[bytes]) -> set[bytes]:
        """Those of the ids that are not stored yet."""
        ...

    def put_pack(self, pack: Pack) -> None:
        """Store a pack; it is on disk when this returns."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """Where a chunk's bytes can be read again."""

    path: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    chunk_id: bytes
    plain: bytes | None
    source: Source | None


@dataclass(slots=True)
class _Window:
    limit_bytes: int
    chunks: list[_Waiting] = field(default_factory=list)
    held_bytes: int = 0

    @property
    def full(self) -> bool:
        return self.held_bytes >= self.limit_bytes or len(self.chunks) >= _WINDOW_CHUNKS


class ChunkSender:
    """``offer`` chunks, then ``finish``: all that were missing are stored by then."""

    def __init__(self, sink: PackSink, keys: EpochKeys, *, pace: Pace = CLIENT_PACE) -> None:
        self._pace = pace
        self._sink = sink
        self._keys = keys
        self._offered: set[bytes] = set()
        self._lean = False
        self._window = _Window(_FIRST_WINDOW_BYTES)
        self._asked: deque[tuple[_Window, Future[set[bytes]]]] = deque()
        self._sealing: deque[tuple[int, Future[SealedChunk]]] = deque()
        self._sealing_bytes = 0
        self._builder = PackBuilder()
        self._begun_packs = 0
        self._sent: deque[tuple[int, Future[int]]] = deque()
        self._sent_bytes = 0
        self._seal_pool = ThreadPoolExecutor(2, thread_name_prefix="seal")
        self._wire_pool = ThreadPoolExecutor(
            _WINDOWS_IN_FLIGHT + _PACKS_IN_FLIGHT, thread_name_prefix="wire"
        )
        self.moved_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pool in (self._seal_pool, self._wire_pool):
            pool.shutdown(wait=True, cancel_futures=True)

    def offer(self, plain: bytes, source: Source | None = None) -> bytes:
        """The id of a chunk that is stored when ``finish`` returns; may wait for earlier ones."""
        chunk_id = self._keys.chunk_id(plain)
        if chunk_id in self._offered:
            return chunk_id
        self._offered.add(chunk_id)
        kept = None if self._lean and source is not None else plain
        self._window.chunks.append(_Waiting(chunk_id, kept, source))
        self._window.held_bytes += len(kept) if kept is not None else 0
        if self._window.full:
            self._ask()
        return chunk_id

    def finish(self) -> None:
        """Wait until everything that was missing is on the other side's disk."""
        if self._window.chunks:
            self._ask()
        while self._asked:
            self._hear()
        while self._sealing:
            self._pack_one()
        if len(self._builder):
            self._send()
        while self._sent:
            self._hear_of_pack()

    def _ask(self) -> None:
        window, self._window = self._window, _Window(_WINDOW_BYTES)
        ids = [chunk.chunk_id for chunk in window.chunks]
        self._asked.append((window, self._wire_pool.submit(self._sink.missing, ids)))
        while len(self._asked) > _WINDOWS_IN_FLIGHT:
            self._hear()

    def _hear(self) -> None:
        window, answer = self._asked.popleft()
        missing = answer.result()
        self._lean = len(missing) < _LEAN_BELOW * len(window.chunks)
        for chunk in window.chunks:
            if chunk.chunk_id in missing:
                self._seal(chunk.chunk_id, self._bytes_of(chunk))

    def _bytes_of(self, chunk: _Waiting) -> bytes:
        if chunk.plain is not None:
            return chunk.plain
        assert chunk.source is not None  # bytes are let go of only where they can be read again
        with Path(chunk.source.path).open("rb") as file:
            file.seek(chunk.source.offset)
            plain = file.read(chunk.source.length)
        if self._keys.chunk_id(plain) != chunk.chunk_id:
            raise FileChanged(
                f"'{chunk.source.path}' changed while it was being read.",
                way_out="Try again when nothing writes to it.",
            )
        return plain

    def _seal(self, chunk_id: bytes, plain: bytes) -> None:
        key = self._keys.chunk_key(chunk_id)
        self._sealing.append((len(plain), self._seal_pool.submit(seal_chunk, key, chunk_id, plain)))
        self._sealing_bytes += len(plain)
        while self._sealing_bytes > _SEALING_BYTES:
            self._pack_one()

    def _pack_one(self) -> None:
        size, sealed = self._sealing.popleft()
        self._sealing_bytes -= size
        self._builder.add(sealed.result())
        if self._builder.full:
            self._send()

    def _send(self) -> None:
        size = self._builder.size_bytes
        while self._sent and (
            len(self._sent) >= _PACKS_IN_FLIGHT
            or self._sent_bytes + size > self._pace.in_flight_bytes
        ):
            self._hear_of_pack()
        going = self._wire_pool.submit(self._finish_and_put, self._builder)
        self._sent.append((size, going))
        self._sent_bytes += size
        self._begun_packs += 1
        doubled = sum(self._begun_packs >= count for count in _DOUBLED_AFTER)
        self._builder = PackBuilder(min(TARGET_PACK_BYTES << doubled, self._pace.pack_bytes))

    def _hear_of_pack(self) -> None:
        size, going = self._sent.popleft()
        self.moved_bytes += going.result()
        self._sent_bytes -= size

    def _finish_and_put(self, builder: PackBuilder) -> int:
        pack = builder.finish()
        self._sink.put_pack(pack)
        return pack.size_bytes
