"""Packs: many sealed chunks in one file that is named by its hash and carries its own index.

``header | chunk … | index | trailer``; the index lists the chunks in file order, without gap or
overlap. A pack is checked as a whole (its id) and for sense (its index) before it is believed.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from blake3 import blake3

from tesra.kit.errors import Invalid
from tesra.storage.format import (
    ID_BYTES,
    MAX_CHUNK_BYTES,
    MAX_SEALED_BYTES,
    SEALED_OVERHEAD_BYTES,
    SealedChunk,
)

MAGIC = b"TESRAPK1"  # the last character is the version
TARGET_PACK_BYTES = 16 * 2**20
LARGE_PACK_BYTES = 64 * 2**20  # of a large upload: fewer to place, index and acknowledge
MAX_PACK_BYTES = 256 * 2**20
MAX_PACK_CHUNKS = 200_000

_ENTRY = struct.Struct(">32sQII")  # chunk id, offset, length, plain size
_TRAILER = struct.Struct(">II32s8s")  # entries, reserved (0), BLAKE3 of the index, magic
MIN_PACK_BYTES = len(MAGIC) + _TRAILER.size


class PackBroken(Invalid):
    """A pack is not what its name or its index says."""


@dataclass(frozen=True, slots=True)
class PackEntry:
    """Where one sealed chunk lies in its pack."""

    chunk_id: bytes
    offset: int
    length: int
    plain_size: int


@dataclass(frozen=True, slots=True)
class Pack:
    """A finished pack in memory; its bytes are the pieces in order, never copied into one."""

    id: str
    pieces: tuple[bytes, ...]
    entries: tuple[PackEntry, ...]

    @property
    def size_bytes(self) -> int:
        return sum(len(piece) for piece in self.pieces)


class PackBuilder:
    """Collects sealed chunks; ``finish`` makes the pack. A chunk is added once at most."""

    def __init__(self, target_bytes: int = TARGET_PACK_BYTES) -> None:
        self._target_bytes = target_bytes
        self._pieces: list[bytes] = [MAGIC]
        self._size = len(MAGIC)
        self._entries: list[PackEntry] = []

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """Of the chunks so far."""
        return self._size

    @property
    def full(self) -> bool:
        return self._size >= self._target_bytes or len(self._entries) >= MAX_PACK_CHUNKS

    def add(self, chunk: SealedChunk) -> None:
        length = len(chunk.sealed)
        self._entries.append(PackEntry(chunk.id, self._size, length, chunk.plain_size))
        self._pieces.append(chunk.sealed)
        self._size += length

    def finish(self) -> Pack:
        """The pack, named; the builder is of no use any more."""
        index = b"".join(
            _ENTRY.pack(entry.chunk_id, entry.offset, entry.length, entry.plain_size)
            for entry in self._entries
        )
        trailer = _TRAILER.pack(len(self._entries), 0, blake3(index).digest(), MAGIC)
        pieces = (*self._pieces, index, trailer)
        digest = blake3()
        for piece in pieces:
            digest.update(piece)
        return Pack(id=digest.hexdigest(), pieces=pieces, entries=tuple(self._entries))


def read_index(file: BinaryIO, size: int) -> list[PackEntry]:
    """The index of a pack file of ``size`` bytes, believed only when all of it makes sense.

    Reads the header and the tail, not the chunks. ``PackBroken`` says what is wrong.
    """
    if not MIN_PACK_BYTES <= size <= MAX_PACK_BYTES:
        raise PackBroken(f"a pack of {size} bytes is not possible")
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC:
        raise PackBroken("this is no pack of a version that is known here")
    file.seek(size - _TRAILER.size)
    count, reserved, digest, magic = _TRAILER.unpack(file.read(_TRAILER.size))
    start = size - _TRAILER.size - count * _ENTRY.size
    if magic != MAGIC or reserved != 0 or count > MAX_PACK_CHUNKS or start < len(MAGIC):
        raise PackBroken("the trailer makes no sense")
    file.seek(start)
    index = file.read(count * _ENTRY.size)
    if blake3(index).digest() != digest:
        raise PackBroken("the index does not have the hash that the trailer gives")
    entries = [PackEntry(*fields) for fields in _ENTRY.iter_unpack(index)]
    check_entries(entries, chunks_end=start)
    return entries


def check_entries(entries: Iterable[PackEntry], *, chunks_end: int) -> None:
    """Chunks fill the space between header and index exactly, each once, each of a possible size."""
    position = len(MAGIC)
    seen: set[bytes] = set()
    for entry in entries:
        if len(entry.chunk_id) != ID_BYTES or entry.chunk_id in seen:
            raise PackBroken(f"chunk {entry.chunk_id.hex()} is listed twice")
        if entry.offset != position:
            raise PackBroken("the index leaves a gap or overlaps")
        if not SEALED_OVERHEAD_BYTES <= entry.length <= MAX_SEALED_BYTES:
            raise PackBroken(f"a sealed chunk of {entry.length} bytes is not possible")
        if entry.plain_size > MAX_CHUNK_BYTES:
            raise PackBroken(f"a chunk of {entry.plain_size} bytes is not possible")
        seen.add(entry.chunk_id)
        position += entry.length
    if position != chunks_end:
        raise PackBroken("the index does not cover all of the pack")


def entry_bytes(file: BinaryIO, entry: PackEntry) -> bytes:
    """The sealed bytes of one entry."""
    file.seek(entry.offset)
    sealed = file.read(entry.length)
    if len(sealed) != entry.length:
        raise PackBroken("the pack ends early")
    return sealed


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one pack that is read at once for several chunks."""

    pack: str
    start: int
    end: int
    chunk_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chunk lies, for those who read."""

    chunk_id: bytes
    pack: str
    offset: int
    length: int


def coalesce(
    places: Iterable[Place], *, gap_bytes: int = 64 * 2**10, span_bytes: int = 8 * 2**20
) -> Iterator[Span]:
    """Fewest reads for these chunks: neighbours of one pack are read together.

    A hole up to ``gap_bytes`` is cheaper read than skipped; no span is longer than ``span_bytes``
    unless a single chunk is.
    """
    pending: list[Place] = []
    for place in sorted(places, key=lambda p: (p.pack, p.offset)):
        if pending and not _continues(pending, place, gap_bytes, span_bytes):
            yield _span(pending)
            pending = []
        pending.append(place)
    if pending:
        yield _span(pending)


def _continues(pending: list[Place], place: Place, gap_bytes: int, span_bytes: int) -> bool:
    first, last = pending[0], pending[-1]
    return (
        place.pack == first.pack
        and place.offset - (last.offset + last.length) <= gap_bytes
        and place.offset + place.length - first.offset <= span_bytes
    )


def _span(places: list[Place]) -> Span:
    return Span(
        pack=places[0].pack,
        start=places[0].offset,
        end=places[-1].offset + places[-1].length,
        chunk_ids=tuple(place.chunk_id for place in places),
    )
