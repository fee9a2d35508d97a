import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tesra.kit.errors import Unavailable
from tesra.sdk.follow import (
    LogNotUnderstood,
    Reconnection,
    Silence,
    StreamBroken,
    follow_log,
    lines_of,
)


def line(cursor: int, **more: object) -> bytes:
    return json.dumps({"cursor": str(cursor), "attempt": 1, "rank": 0, **more}).encode() + b"\n"


class Server:
    """Plays one script for each time the log is opened; an exception in it is raised there."""

    def __init__(self, *scripts: list[bytes | Exception]) -> None:
        self.scripts = list(scripts)
        self.opened: list[str | None] = []

    @contextmanager
    def __call__(self, after: str | None) -> Iterator[Iterator[bytes]]:
        self.opened.append(after)
        yield self._play(self.scripts.pop(0))

    def _play(self, script: list[bytes | Exception]) -> Iterator[bytes]:
        for step in script:
            if isinstance(step, Exception):
                raise step
            yield step


class Hours:
    """A clock that only pauses move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.gaps: list[Unavailable] = []

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def again(self, patience_s: float = 600) -> Reconnection:
        return Reconnection(patience_s, self.gaps.append, self.pause, lambda: self.now)


def texts(server: Server, hours: Hours, *, live: bool = True) -> list[str | None]:
    return [
        chunk.text or chunk.state for chunk in follow_log(server, live=live, again=hours.again())
    ]


def test_a_live_log_ends_with_a_terminal_state() -> None:
    server = Server([line(1, text="a\n"), line(1, state="running"), line(2, state="succeeded")])
    assert texts(server, Hours()) == ["a\n", "running", "succeeded"]


def test_a_broken_connection_goes_on_behind_the_last_whole_chunk() -> None:
    server = Server(
        [line(1, text="a\n"), line(2, text="b\n")[:20], Unavailable("gone")],
        [Unavailable("refused")],
        [line(2, text="b\n"), line(3, state="failed")],
    )
    hours = Hours()
    assert texts(server, hours) == ["a\n", "b\n", "failed"]
    assert server.opened == [None, "1", "1"]
    assert [gap.detail for gap in hours.gaps] == ["gone"], "told once for a gap"


def test_a_chunk_that_is_cut_off_at_a_clean_end_is_asked_for_again() -> None:
    server = Server([line(1, text="a\n"), line(2, text="b\n")[:-9]], [line(2, state="stopped")])
    assert texts(server, Hours()) == ["a\n", "stopped"]
    assert server.opened == [None, "1"]


def test_a_live_log_that_ends_early_is_opened_again_without_alarm() -> None:
    hours = Hours()
    server = Server([line(1, text="a\n")], [Silence()], [line(1, state="succeeded")])
    assert texts(server, hours) == ["a\n", "succeeded"]
    assert hours.gaps == []


def test_a_log_that_is_not_live_ends_with_its_end() -> None:
    server = Server([line(1, text="a\n")])
    assert texts(server, Hours(), live=False) == ["a\n"]


def test_patience_ends_with_the_last_trouble() -> None:
    hours = Hours()
    server = Server(*([Unavailable("refused")] for _ in range(1000)))
    with pytest.raises(Unavailable, match="refused"):
        list(follow_log(server, live=True, again=hours.again(patience_s=30)))
    assert 30 <= hours.now < 35


def test_patience_ends_also_when_the_log_only_ever_ends_early() -> None:
    with pytest.raises(StreamBroken):
        list(follow_log(Server(*([] for _ in range(1000))), live=True, again=Hours().again()))


def test_patience_begins_anew_with_every_chunk() -> None:
    hours = Hours()
    scripts = [[line(number, text="x\n"), Unavailable("gone")] for number in range(50)]
    server = Server(*scripts, [line(50, state="succeeded")])
    chunks = list(follow_log(server, live=True, again=hours.again(patience_s=0.3)))
    assert len(chunks) == 51


def test_another_format_is_told_at_once() -> None:
    server = Server([b'{"words": "of another version"}\n'])
    with pytest.raises(LogNotUnderstood):
        texts(server, Hours())


def test_signs_of_life_are_skipped() -> None:
    server = Server([b"\n\n", line(1, text="a\n"), b"\n", line(2, state="succeeded")])
    assert texts(server, Hours()) == ["a\n", "succeeded"]


def test_lines_are_split_at_newlines_alone() -> None:
    text = "one\u2028still one\x0band still\x85\n".encode()
    assert list(lines_of([text[:5], text[5:], b"two\n\nrest"])) == [text[:-1], b"two", b"", b"rest"]


def test_a_huge_line_in_many_blocks_is_joined_in_linear_time() -> None:
    blocks = [b"x" * 1000] * 20_000
    assert [len(found) for found in lines_of([*blocks, b"\n"])] == [20_000_000]
