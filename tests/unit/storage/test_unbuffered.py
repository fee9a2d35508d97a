"""What goes past the page cache is on the disk byte for byte, whatever its size and the disk's kind."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesra.storage.unbuffered import UnbufferedFile

MIB = 2**20
IN_MEMORY = Path("/dev/shm")


def written(path: Path, content: bytes, piece: int) -> bytes:
    with UnbufferedFile(path) as file:
        left = memoryview(content)
        while left:
            room = file.room
            count = min(len(room), len(left), piece)
            room[:count] = left[:count]
            assert file.advance(count) == left[:count]
            left = left[count:]
        file.finish()
    return path.read_bytes()


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 2 * MIB, 2 * MIB + 1, 5 * MIB - 3])
def test_every_size_is_kept_to_the_byte(size: int, tmp_path: Path) -> None:
    content = os.urandom(size)
    assert written(tmp_path / "file", content, piece=MIB) == content


@given(size=st.integers(0, 3 * MIB), piece=st.integers(4000, MIB))
def test_pieces_of_any_size_join(
    size: int, piece: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert written(tmp_path_factory.mktemp("file") / "file", content, piece) == content


@pytest.mark.skipif(not IN_MEMORY.is_dir(), reason="no file system in memory here")
def test_where_there_is_no_way_past_the_page_cache_it_is_written_as_ever(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    name = tmp_path_factory.mktemp("name").name
    path = IN_MEMORY / f"tesra-{os.getpid()}-{name}"
    try:
        assert written(path, content := os.urandom(3 * MIB + 5), piece=MIB) == content
    finally:
        path.unlink(missing_ok=True)


def test_a_disk_that_takes_no_more_says_so(tmp_path: Path) -> None:
    (tmp_path / "full").symlink_to("/dev/full")
    with UnbufferedFile(tmp_path / "full") as file:
        file.room[:10] = b"0123456789"
        file.advance(10)
        with pytest.raises(OSError, match="No space"):
            file.finish()
