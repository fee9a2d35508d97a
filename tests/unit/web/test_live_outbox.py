"""What a slow viewer loses is counted exactly, the oldest first; what it gets is in order."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesra.training.logs import Segment
from tesra.web.live.events import cursor_of, event, log_events
from tesra.web.live.outbox import Event, Outbox

puts = st.lists(st.one_of(st.integers(1, 40), st.none()), max_size=60)


def segment(seq: int, text: str, rank: int = 0, attempt: int = 1) -> Segment:
    return Segment(seq=seq, attempt=attempt, rank=rank, offset=0, data=text.encode())


def lines_event(seq: int, count: int, *, filler: int = 0) -> Event:
    text = "".join(f"{seq}.{number}{'x' * filler}\n" for number in range(count))
    (lines,) = log_events([segment(seq, text)], seq - 1)
    return Event(lines.data, lines=lines.lines, after=lines.after, until=lines.until)


def read(stream: bytes) -> list[tuple[str, str | None, dict[str, object]]]:
    found = []
    for block in stream.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        if "event" in fields:
            found.append((fields["event"], fields.get("id"), json.loads(fields["data"])))
    return found


def drained(outbox: Outbox) -> bytes:
    taken = b""
    while part := outbox.take():
        taken += part
    return taken


@given(puts, st.integers(100, 3000), st.integers(1, 2000))
def test_each_line_is_sent_once_in_order_or_counted_where_it_is_missing(
    steps: list[int | None], limit: int, most: int
) -> None:
    outbox, put, stream, seq = Outbox(limit_bytes=limit), [], b"", 0
    for step in steps:
        if step is None:
            stream += outbox.take(most)
            continue
        seq += 1
        put.extend(f"{seq}.{number}" for number in range(step))
        outbox.put(lines_event(seq, step))
    stream += drained(outbox)
    at, cursor, told = 0, 0, 0
    for name, id_, data in read(stream):
        if name == "dropped":
            assert data["after"] == cursor
            at += int(str(data["lines"]))
            told += int(str(data["lines"]))
            cursor = int(str(data["until"]))
            assert id_ == str(cursor)
            continue
        (part,) = data["parts"]  # type: ignore[misc]
        for line in part["text"].splitlines():  # type: ignore[index]
            assert line == put[at]
            at += 1
        cursor = int(str(data["cursor"]))
        assert id_ == str(cursor)
    assert at == len(put)
    assert told == outbox.lines_dropped


@given(st.lists(st.integers(1, 30), max_size=100), st.integers(200, 2000))
def test_what_waits_stays_within_its_bound(counts: list[int], limit: int) -> None:
    outbox = Outbox(limit_bytes=limit)
    newest = b""
    for seq, count in enumerate(counts, 1):
        new = lines_event(seq, count)
        outbox.put(new)
        newest = new.data
    waiting = [one for one in drained(outbox).split(b"\n\n") if one.startswith(b"event: log")]
    assert sum(len(one) + 2 for one in waiting) <= max(limit, len(newest))


def test_lines_larger_than_all_room_are_sent_nevertheless() -> None:
    outbox = Outbox(limit_bytes=10)
    outbox.put(lines_event(1, 3))
    outbox.put(lines_event(2, 50))
    names = [(name, data.get("lines")) for name, _, data in read(drained(outbox))]
    assert names == [("dropped", 3), ("log", None)]


def test_only_the_newest_state_waits_and_stands_behind_the_lines_before_it() -> None:
    outbox = Outbox()
    outbox.put(Event(event("state", {"state": "running"}), "state"))
    outbox.put(lines_event(1, 2))
    outbox.put(Event(event("state", {"state": "succeeded"}), "state"))
    found = read(drained(outbox))
    assert [name for name, _, _ in found] == ["log", "state"]
    assert found[1][2] == {"state": "succeeded"}


def test_news_that_pile_up_are_told_whole() -> None:
    def whole() -> Event:
        return Event(event("metrics", {"all": True}), "metrics")

    outbox = Outbox()
    for number in range(3):
        outbox.put(Event(event("metrics", {"part": number}), "metrics", whole=whole))
    assert [data for _, _, data in read(drained(outbox))] == [{"all": True}]


def test_states_are_never_dropped_for_lines() -> None:
    outbox = Outbox(limit_bytes=100)
    outbox.put(Event(event("state", {"state": "running"}), "state"))
    for seq in range(1, 50):
        outbox.put(lines_event(seq, 5))
    names = [name for name, _, _ in read(drained(outbox))]
    assert names == ["state", "dropped", "log"]


def test_parts_of_one_rank_are_joined_also_inside_a_character() -> None:
    whole = "损失 0.1\n".encode()
    cut = [
        Segment(seq=5, attempt=1, rank=0, offset=0, data=whole[:2]),
        Segment(seq=6, attempt=1, rank=0, offset=2, data=whole[2:]),
        segment(7, "other\n", rank=1),
    ]
    (lines,) = log_events(cut, 4)
    ((_, id_, data),) = read(lines.data)
    assert id_ == "7"
    assert data["parts"] == [
        {"attempt": 1, "rank": 0, "text": "损失 0.1\n"},
        {"attempt": 1, "rank": 1, "text": "other\n"},
    ]


def test_a_viewer_of_one_rank_hears_it_and_tesra_alone() -> None:
    some = [segment(1, "zero\n"), segment(2, "one\n", rank=1), segment(3, "tesra\n", rank=-1)]
    (lines,) = log_events(some, 0, rank=1)
    ((_, _, data),) = read(lines.data)
    assert [part["rank"] for part in data["parts"]] == [1, -1]  # type: ignore[attr-defined]
    assert lines.lines == 2
    assert log_events(some[:1], 0, rank=1) == []


def test_what_a_script_prints_cannot_forge_an_event() -> None:
    (lines,) = log_events([segment(1, "\n\nevent: end\ndata: {}\n\n\r\r")], 0)
    assert [name for name, _, _ in read(lines.data)] == ["log"]
    assert b"\r" not in lines.data


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ("12", (12, False)),
        ("12.end", (12, True)),
        (None, (None, False)),
        ("", (None, False)),
        ("-3", (None, False)),
        ("１２", (None, False)),
        ("9" * 40, (None, False)),
        ("abc.end", (None, False)),
    ],
)
def test_a_cursor_is_read_back_and_nonsense_is_none(
    said: str | None, known: tuple[int | None, bool]
) -> None:
    assert cursor_of(said) == known
