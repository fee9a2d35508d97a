"""Content-defined cutting: an insertion moves the cuts near it and no others."""

from collections.abc import Iterator
from typing import IO

from pyfastcdc import FastCDC

from tesra.storage.format import MAX_CHUNK_BYTES

MIN_CHUNK_BYTES = 256 * 2**10
AVERAGE_CHUNK_BYTES = 2**20
INLINE_BYTES = 16 * 2**10  # a file up to this size lies in its folder's tree node

_cutter = FastCDC(min_size=MIN_CHUNK_BYTES, avg_size=AVERAGE_CHUNK_BYTES, max_size=MAX_CHUNK_BYTES)


def cut_stream(stream: IO[bytes]) -> Iterator[bytes]:
    """The chunks of a stream, in order; together they are the stream. Holds a few MiB at a time."""
    for chunk in _cutter.cut_stream(stream):
        yield bytes(chunk.data)
