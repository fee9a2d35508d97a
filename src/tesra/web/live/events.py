"""Events as docs/spec/live.md has them, encoded for the wire. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tesra.training.log_reading import count_lines
from tesra.training.logs import Segment

RETRY_MS = 1000
PART_BYTES = 2**17  # of text in one `log`, unless one segment alone is larger
HEARTBEAT = b": alive\n\n"
RETRY = f"retry: {RETRY_MS}\n\n".encode()
END_MARK = ".end"  # behind the cursor in the id of an `end`


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of a log, encoded; behind cursor ``after``, up to ``until``."""

    data: bytes
    lines: int
    after: int
    until: int


def event(name: str, data: Any, *, id_: str | None = None) -> bytes:
    """One event; its data is one line of JSON."""
    return event_of_json(name, json.dumps(data, ensure_ascii=False, separators=(",", ":")), id_=id_)


def event_of_json(name: str, text: str, *, id_: str | None = None) -> bytes:
    """The same, of what is JSON already."""
    cursor = f"id: {id_}\n" if id_ is not None else ""
    return f"event: {name}\n{cursor}data: {text}\n\n".encode()


def dropped(lines: int, after: int, until: int) -> bytes:
    """That a slow viewer was not sent so many lines."""
    said = {"lines": lines, "after": after, "until": until}
    return event("dropped", said, id_=str(until))


def end(state: str, cursor: int) -> bytes:
    return event("end", {"state": state}, id_=f"{cursor}{END_MARK}")


def log_events(segments: Sequence[Segment], after: int, *, rank: int | None = None) -> list[Lines]:
    """Segments as events of a fair size, for all ranks or one and Tesra's own; whole segments each."""
    made: list[Lines] = []
    some: list[Segment] = []
    size = 0
    for segment in segments:
        if rank is not None and segment.rank not in (rank, -1):
            continue
        if some and size + len(segment.data) > PART_BYTES:
            made.append(_log_event(some, after))
            after, some, size = some[-1].seq, [], 0
        some.append(segment)
        size += len(segment.data)
    if some:
        made.append(_log_event(some, after))
    return made


def _log_event(segments: Sequence[Segment], after: int) -> Lines:
    parts: list[tuple[int, int, list[bytes]]] = []
    for segment in segments:
        if parts and parts[-1][:2] == (segment.attempt, segment.rank):
            parts[-1][2].append(segment.data)
        else:
            parts.append((segment.attempt, segment.rank, [segment.data]))
    until = segments[-1].seq
    told = [
        {"attempt": attempt, "rank": rank, "text": b"".join(data).decode("utf-8", "replace")}
        for attempt, rank, data in parts
    ]
    data = event("log", {"cursor": until, "parts": told}, id_=str(until))
    return Lines(data, sum(count_lines(segment.data) for segment in segments), after, until)


def cursor_of(last_event_id: str | None) -> tuple[int | None, bool]:
    """The cursor in a ``Last-Event-ID``, and whether it is that of an `end`; None if it is none."""
    text = (last_event_id or "").strip()
    number, ended = text.removesuffix(END_MARK), text.endswith(END_MARK)
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        return None, False
    return int(number), ended
