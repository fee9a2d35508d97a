"""Chunks and their keys, as docs/spec/pack.md has them.

A chunk's id tells nothing about its content to one who lacks the epoch's id key; its bytes tell
nothing to one who lacks its own key; and a byte that was changed is never delivered.
"""

import mmap
import os
import threading
from dataclasses import dataclass

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tesra.kit.errors import TesraError

ID_BYTES = 32
KEY_BYTES = 32
MAX_CHUNK_BYTES = 4 * 2**20  # plain; also the longest that a reader unpacks
SEALED_OVERHEAD_BYTES = 1 + 12 + 16  # flag, nonce, tag
MAX_SEALED_BYTES = MAX_CHUNK_BYTES + SEALED_OVERHEAD_BYTES

_RAW = b"\x00"
_ZSTD = b"\x01"
_NONCE_BYTES = 12
_TAG_BYTES = 16
_COMPRESSION_LEVEL = 1  # 0.9 GB/s on data that does not shrink; level 3 halves that
_WORTH = 0.95  # below this ratio the reader's time for unpacking is well spent
_COMPRESS_FROM_BYTES = 64
_SAMPLED_FROM_BYTES = 128 * 2**10  # what is larger is tried in places first
_SAMPLES, _SAMPLE_BYTES = 4, 8 * 2**10


class ChunkBroken(TesraError):
    """A chunk's bytes are not what was stored: changed, cut short, or sealed with another key."""


@dataclass(frozen=True, slots=True)
class EpochKeys:
    """The keys of one epoch: ``id_key`` names chunks, ``data_key`` is the root of their keys."""

    id: str
    id_key: bytes
    data_key: bytes

    def __repr__(self) -> str:
        return f"EpochKeys({self.id!r})"  # keys never reach a log

    def chunk_id(self, plain: bytes | memoryview) -> bytes:
        """Keyed BLAKE3 of the content: equal content has one id within the epoch, and only there."""
        return blake3(plain, key=self.id_key).digest()

    def chunk_key(self, chunk_id: bytes) -> bytes:
        """The key that opens just this chunk."""
        return blake3(b"chunk" + chunk_id, key=self.data_key).digest()


@dataclass(frozen=True, slots=True)
class SealedChunk:
    """One encrypted chunk as it lies in a pack."""

    id: bytes
    sealed: bytes
    plain_size: int


def new_keys(epoch_id: str) -> EpochKeys:
    """Fresh random keys for an epoch."""
    return EpochKeys(id=epoch_id, id_key=os.urandom(KEY_BYTES), data_key=os.urandom(KEY_BYTES))


def seal_chunk(key: bytes, chunk_id: bytes, plain: bytes) -> SealedChunk:
    """``flag | nonce | ciphertext | tag``; id and flag are authenticated with it."""
    if len(plain) > MAX_CHUNK_BYTES:
        raise ValueError(f"a chunk has at most {MAX_CHUNK_BYTES} bytes, not {len(plain)}")
    flag, body = _squeeze(plain)
    nonce = os.urandom(_NONCE_BYTES)
    sealed = _codec.sealed[: SEALED_OVERHEAD_BYTES + len(body)]
    sealed[:1] = flag
    sealed[1 : 1 + _NONCE_BYTES] = nonce
    AESGCM(key).encrypt_into(nonce, body, chunk_id + flag, sealed[1 + _NONCE_BYTES :])
    return SealedChunk(id=chunk_id, sealed=bytes(sealed), plain_size=len(plain))


def open_chunk(key: bytes, chunk_id: bytes, sealed: bytes | memoryview) -> bytes:
    """The content of a sealed chunk; ``ChunkBroken`` when it was changed or is another's."""
    return bytes(open_chunk_within(key, chunk_id, sealed))


def open_chunk_within(
    key: bytes, chunk_id: bytes, sealed: bytes | memoryview
) -> bytes | memoryview:
    """The same in memory that each thread uses again: good until the thread opens another chunk."""
    if not SEALED_OVERHEAD_BYTES <= len(sealed) <= MAX_SEALED_BYTES:
        raise ChunkBroken(f"chunk {chunk_id.hex()} has an impossible length of {len(sealed)} bytes")
    flag = bytes(sealed[:1])
    nonce = bytes(sealed[1 : 1 + _NONCE_BYTES])
    body = _codec.opened[: len(sealed) - SEALED_OVERHEAD_BYTES]
    try:
        AESGCM(key).decrypt_into(nonce, sealed[1 + _NONCE_BYTES :], chunk_id + flag, body)
    except InvalidTag as error:
        raise ChunkBroken(f"chunk {chunk_id.hex()} does not open: it was changed") from error
    return _unsqueeze(flag, body, chunk_id)


class _Codec(threading.local):
    """zstd contexts and a chunk's memory are reused, one for each thread: not safe to share."""

    def __init__(self) -> None:
        self.opened = memoryview(mmap.mmap(-1, MAX_CHUNK_BYTES))  # only what is used takes memory
        self.sealed = memoryview(mmap.mmap(-1, MAX_SEALED_BYTES))
        self.compressor = zstandard.ZstdCompressor(level=_COMPRESSION_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=2 * MAX_CHUNK_BYTES)


_codec = _Codec()


def _squeeze(plain: bytes) -> tuple[bytes, bytes]:
    if len(plain) < _COMPRESS_FROM_BYTES or not _may_shrink(plain):
        return _RAW, plain
    small = _codec.compressor.compress(plain)
    return (_ZSTD, small) if len(small) < _WORTH * len(plain) else (_RAW, plain)


def _may_shrink(plain: bytes) -> bool:
    """Whether any of a few places does: pictures, weights and archives are told at little cost."""
    if len(plain) < _SAMPLED_FROM_BYTES:
        return True
    view, step = memoryview(plain), (len(plain) - _SAMPLE_BYTES) // (_SAMPLES - 1)
    return any(
        len(_codec.compressor.compress(view[start : start + _SAMPLE_BYTES]))
        < _WORTH * _SAMPLE_BYTES
        for start in range(0, step * _SAMPLES, step)
    )


def _unsqueeze(flag: bytes, body: memoryview, chunk_id: bytes) -> bytes | memoryview:
    if flag == _RAW:
        return body
    if flag != _ZSTD:
        raise ChunkBroken(f"chunk {chunk_id.hex()} is of an unknown kind: update Tesra")
    try:
        size = zstandard.frame_content_size(body)
        if not 0 <= size <= MAX_CHUNK_BYTES:
            raise ChunkBroken(f"chunk {chunk_id.hex()} unpacks to more than a chunk may hold")
        return _codec.decompressor.decompress(body)
    except zstandard.ZstdError as error:
        raise ChunkBroken(f"chunk {chunk_id.hex()} does not unpack") from error
