"""What grows on a node arrives whole, in order, whatever the server does meanwhile."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from tesra.node.courier import SEGMENT_BYTES, Courier, Growing, whole_lines
from tesra.node.last_lines import last_lines
from tesra.node.site_client import ServerAway, SiteClient
from tesra.wire.site import Piece, PieceTaken


class Shelf(SiteClient):
    """Takes pieces in memory; ``trouble`` is raised by the next calls, one each."""

    def __init__(self, *trouble: Exception, stale: Sequence[str] = ()) -> None:
        self.held: defaultdict[tuple[str, str, int], bytearray] = defaultdict(bytearray)
        self.trouble = list(trouble)
        self.stale = stale
        self.calls: list[int] = []

    @property
    def log(self) -> bytearray:
        return self.held["att_1", "log", 0]

    async def deliver(self, pieces: Sequence[tuple[Piece, bytes]]) -> list[PieceTaken]:
        self.calls.append(len(pieces))
        if self.trouble:
            raise self.trouble.pop(0)
        return [self._take(piece, data) for piece, data in pieces]

    def _take(self, piece: Piece, data: bytes) -> PieceTaken:
        assert piece.size == len(data)
        if piece.attempt in self.stale:
            return PieceTaken(refused="stale_fence")
        if piece.kind == "metrics" and data.startswith(b"bad"):
            return PieceTaken(refused="invalid")
        held = self.held[piece.attempt, piece.kind, piece.of]
        if piece.offset == len(held):
            held += data
        return PieceTaken(offset=len(held))


async def push(shelf: Shelf, path: Path) -> list[str]:
    stale: list[str] = []
    parcels = Courier(shelf).parcels("att_1", 1, on_stale=lambda: stale.append("stale"))
    parcels.follow(Growing("log", 0, path))
    await parcels.finish()
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
    assert bytes(shelf.log) == path.read_bytes()


async def test_pusher_goes_on_where_the_server_is(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\nthree\n")
    shelf = Shelf()
    shelf.log.extend(b"one\ntwo\n")
    await push(shelf, path)
    assert bytes(shelf.log) == path.read_bytes()


async def test_pusher_waits_for_a_server_that_is_away(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\n")
    shelf = Shelf(ServerAway(), ServerAway())
    await push(shelf, path)
    assert bytes(shelf.log) == b"one\n"


async def test_stale_fence_is_told_and_ends_the_delivery(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\n")
    assert await push(Shelf(stale=["att_1"]), path) == ["stale"]


async def test_files_of_several_attempts_go_together_each_with_its_own_answer(
    tmp_path: Path,
) -> None:
    shelf = Shelf(stale=["att_2"])
    courier = Courier(shelf)
    stale: list[str] = []
    all_of_them = []
    for attempt in ("att_1", "att_2", "att_3"):
        (tmp_path / attempt).write_bytes(b"one\n")
        (tmp_path / f"{attempt}.points").write_bytes(b"bad\n" if attempt == "att_3" else b"{}\n")
        parcels = courier.parcels(attempt, 1, on_stale=lambda name=attempt: stale.append(name))
        parcels.follow(Growing("log", 0, tmp_path / attempt))
        parcels.follow(Growing("metrics", 0, tmp_path / f"{attempt}.points"))
        all_of_them.append(parcels)
    for parcels in all_of_them:
        await parcels.finish()
    assert stale == ["att_2"]
    assert {key: bytes(held) for key, held in shelf.held.items()} == {
        ("att_1", "log", 0): b"one\n",
        ("att_1", "metrics", 0): b"{}\n",
        ("att_3", "log", 0): b"one\n",
    }
    assert shelf.calls == [6]


async def test_what_is_much_holds_nothing_up(tmp_path: Path) -> None:
    (tmp_path / "much").write_bytes(b"line\n" * 100_000)
    (tmp_path / "little").write_bytes(b"one\n")
    shelf = Shelf()
    parcels = Courier(shelf).parcels("att_1", 1, on_stale=lambda: None)
    parcels.follow(Growing("log", 1, tmp_path / "much"))
    parcels.follow(Growing("log", 0, tmp_path / "little"))
    await parcels.finish()
    assert shelf.calls == [1, 1]
    assert bytes(shelf.log) == b"one\n"


async def test_a_file_that_cannot_be_read_keeps_nothing_from_ending(tmp_path: Path) -> None:
    shelf = Shelf()
    assert await push(shelf, tmp_path) == []
    assert not shelf.log


async def test_log_that_was_never_written_is_no_error(tmp_path: Path) -> None:
    assert await push(Shelf(), tmp_path / "none") == []


def test_last_words_survive_binary(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\xff\x00boom\n")
    assert last_lines(path).endswith("boom")
    assert "\0" not in last_lines(path)


def test_last_words_are_what_a_terminal_would_show_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\x1b[32mstep 1\x1b[0m\r\n 10%|#\r100%|##\x1b[K\r\n\x1b]0;title\x07boom\n")
    assert last_lines(path) == "step 1\n100%|##\nboom"
