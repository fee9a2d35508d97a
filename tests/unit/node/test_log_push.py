"""Logs arrive whole, in order, whatever the server does meanwhile."""

from pathlib import Path

import pytest

from tesra.node.file_push import SEGMENT_BYTES, whole_lines
from tesra.node.log_push import LogPusher, last_lines
from tesra.node.site_client import ServerAway, SiteClient, StaleFence


class Shelf(SiteClient):
    """Takes log segments in memory; ``trouble`` is raised by the next calls, one each."""

    def __init__(self, *trouble: Exception) -> None:
        self.held = bytearray()
        self.trouble = list(trouble)

    async def put_log(
        self, attempt: str, fence: int, rank: int, *, offset: int, data: bytes
    ) -> int:
        if self.trouble:
            raise self.trouble.pop(0)
        if offset == len(self.held):
            self.held += data
        return len(self.held)


async def push(shelf: Shelf, path: Path) -> list[str]:
    stale: list[str] = []
    pusher = LogPusher(shelf, "att_1", 1, on_stale=lambda: stale.append("stale"))
    pusher.follow([(0, path)])
    await pusher.finish()
    return stale


def test_segment_ends_with_its_last_whole_line() -> None:
    assert whole_lines(b"one\ntwo\nthr") == b"one\ntwo\n"
    assert whole_lines(b"thr") == b""


def test_overlong_line_goes_in_pieces() -> None:
    assert whole_lines(b"x" * SEGMENT_BYTES) == b"x" * SEGMENT_BYTES


@pytest.mark.parametrize("letter", ["é", "长", "😀"])
def test_overlong_line_is_never_cut_within_a_character(letter: str) -> None:
    text = ("x" + letter * SEGMENT_BYTES).encode()
    for size in range(SEGMENT_BYTES, SEGMENT_BYTES + 4):
        segment = whole_lines(text[:size])
        assert size - len(segment) < 4
        assert segment.decode()


def test_binary_without_an_end_is_sent_all_the_same() -> None:
    assert whole_lines(b"\xbf" * SEGMENT_BYTES) == b"\xbf" * SEGMENT_BYTES


def test_progress_bar_is_sent_while_it_moves() -> None:
    assert whole_lines(b"10%\r20%\r30") == b"10%\r20%\r"


async def test_everything_arrives_also_the_end_without_a_line_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"line\n" * 500_000 + b"y" * 3_000_000 + b"\nlast")
    shelf = Shelf()
    await push(shelf, path)
    assert bytes(shelf.held) == path.read_bytes()


async def test_pusher_goes_on_where_the_server_is(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\nthree\n")
    shelf = Shelf()
    shelf.held += b"one\ntwo\n"
    await push(shelf, path)
    assert bytes(shelf.held) == path.read_bytes()


async def test_pusher_waits_for_a_server_that_is_away(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\n")
    shelf = Shelf(ServerAway(), ServerAway())
    await push(shelf, path)
    assert bytes(shelf.held) == b"one\n"


async def test_stale_fence_is_told_and_ends_the_delivery(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\n")
    assert await push(Shelf(StaleFence()), path) == ["stale"]


async def test_log_that_was_never_written_is_no_error(tmp_path: Path) -> None:
    assert await push(Shelf(), tmp_path / "none") == []


def test_last_words_survive_binary(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\xff\x00boom\n")
    assert last_lines(path).endswith("boom")
    assert "\0" not in last_lines(path)
