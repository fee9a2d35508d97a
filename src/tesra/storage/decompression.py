"""Streams out of compressed files, in bounded memory whatever the file asks for."""

import bz2
import gzip
import io
import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import IO, cast

import zstandard

_XZ_MEMORY_BYTES = 256 * 2**20  # xz -9 needs 65 MiB
_ZSTD_WINDOW_BYTES = 128 * 2**20
_READ_BYTES = 256 * 2**10


class Compression(Enum):
    """How a file is compressed, by its first bytes."""

    NONE = b""
    GZIP = b"\x1f\x8b"
    BZIP2 = b"BZh"
    XZ = b"\xfd7zXZ\x00"
    ZSTD = b"\x28\xb5\x2f\xfd"


def compression_of(path: Path) -> Compression:
    with path.open("rb") as file:
        head = file.read(8)
    kinds = [kind for kind in Compression if kind.value and head.startswith(kind.value)]
    return kinds[0] if kinds else Compression.NONE


@contextmanager
def decompressed(path: Path, compression: Compression) -> Iterator[IO[bytes]]:
    """The file's content as a stream that is read forward once."""
    with path.open("rb") as file:
        match compression:
            case Compression.GZIP:
                yield cast(IO[bytes], gzip.GzipFile(fileobj=file))
            case Compression.BZIP2:
                yield bz2.BZ2File(file)
            case Compression.XZ:
                yield io.BufferedReader(_XzReader(file))
            case Compression.ZSTD:
                reader = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
                yield cast(
                    IO[bytes],
                    io.BufferedReader(reader.stream_reader(file, read_across_frames=True)),
                )
            case Compression.NONE:
                yield file


class _XzReader(io.RawIOBase):
    """``lzma.LZMAFile`` with a limit on the memory that a file's dictionary may take."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decompressor = lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the caller is BufferedReader
        while not self._decompressor.eof:
            data = b""
            if self._decompressor.needs_input:
                data = self._file.read(_READ_BYTES)
                if not data:
                    raise EOFError("the xz stream is cut short")
            out = self._decompressor.decompress(data, max_length=len(buffer))
            if out:
                buffer[: len(out)] = out
                return len(out)
        return 0
