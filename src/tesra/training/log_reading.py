"""The reading side of logs: in order, from either end, searched; never more than a part in memory."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import zstandard
from sqlalchemy import func, select

from tesra.db.engine import Tx
from tesra.kit.ids import RunId
from tesra.training.logs import Segment, log_segments, run_logs

READ_BYTES = 2**20
TAIL_MOST_BYTES = 8 * 2**20  # looked at for the last lines of a log
HIT_CHARS = 1000
_SEGMENTS_A_READ = 64


@dataclass(frozen=True, slots=True)
class Span:
    """Segments behind number ``after``, up to ``until`` if that is given; of one rank and Tesra, or all.

    ``backwards``: the newest of them first.
    """

    after: int = 0
    until: int | None = None
    rank: int | None = None
    backwards: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """A line that was looked for: its place in the segment ``seq``, counted from 0."""

    seq: int
    line: int
    attempt: int
    rank: int
    text: str


async def newest_segment(tx: Tx, run: RunId) -> int:
    """The number of the newest segment; 0 before the first."""
    newest = select(run_logs.c.seq).where(run_logs.c.run_id == run)
    return (await tx.execute(newest)).scalar_one_or_none() or 0


async def read_log(
    tx: Tx, run: RunId, span: Span, *, limit_bytes: int = READ_BYTES
) -> list[Segment]:
    """The next part of a span, in its order: at least one segment, about ``limit_bytes`` of them."""
    column = log_segments.c
    order = column.seq.desc() if span.backwards else column.seq
    statement = select(log_segments).where(column.run_id == run, column.seq > span.after)
    if span.until is not None:
        statement = statement.where(column.seq <= span.until)
    if span.rank is not None:
        statement = statement.where(column.rank.in_([span.rank, -1]))
    some = statement.order_by(order).limit(_SEGMENTS_A_READ).subquery()
    place = some.c.seq.desc() if span.backwards else some.c.seq
    before = func.sum(some.c.size_bytes).over(order_by=place) - some.c.size_bytes
    sized = select(some, before.label("before")).subquery()
    last = sized.c.seq.desc() if span.backwards else sized.c.seq
    rows = await tx.execute(select(sized).where(sized.c.before < limit_bytes).order_by(last))
    unpack = zstandard.ZstdDecompressor().decompress
    return [
        Segment(
            seq=row.seq,
            attempt=row.attempt,
            rank=row.rank,
            offset=row.offset,
            data=unpack(row.data, max_output_size=row.size_bytes),
        )
        for row in rows
    ]


def is_last(segments: Sequence[Segment], *, limit_bytes: int = READ_BYTES) -> bool:
    """Whether a part that ``read_log`` gave is the last one of its span as it was then."""
    size = sum(len(segment.data) for segment in segments)
    return len(segments) < _SEGMENTS_A_READ and size < limit_bytes


async def start_of_tail(tx: Tx, run: RunId, span: Span, lines: int) -> int:
    """The number before the segments that hold the last ``lines`` of the span; counts so far only."""
    at = span.until if span.until is not None else await newest_segment(tx, run)
    seen = looked_at = 0
    while seen < lines and looked_at < TAIL_MOST_BYTES and at > span.after:
        part = Span(span.after, at, span.rank, backwards=True)
        segments = await read_log(tx, run, part)
        if not segments:
            return span.after
        for segment in segments:
            at = segment.seq - 1
            seen += count_lines(segment.data)
            looked_at += len(segment.data)
            if seen >= lines:
                break
    return max(at, span.after)


def count_lines(data: bytes) -> int:
    """A last line without its end counts too."""
    return data.count(b"\n") + (not data.endswith(b"\n") and bool(data))


def finder(query: str) -> Callable[[Segment], Iterator[Hit]]:
    """Finds the lines of a segment that hold the query, in any case."""
    pattern = re.compile(re.escape(query), re.IGNORECASE)
    lowered = query.lower().encode() if query.isascii() else None

    def find(segment: Segment) -> Iterator[Hit]:
        if lowered is not None and lowered not in segment.data.lower():
            return  # far quicker than to look at each line
        text = segment.data.decode("utf-8", errors="replace")
        for number, line in enumerate(text.split("\n")):
            found = pattern.search(line)
            if found is not None:
                start = max(0, min(found.start() - HIT_CHARS // 4, len(line) - HIT_CHARS))
                shown = line[start : start + HIT_CHARS]
                yield Hit(segment.seq, number, segment.attempt, segment.rank, shown)

    return find


def find_in(
    segments: Sequence[Segment], find: Callable[[Segment], Iterator[Hit]], most: int
) -> tuple[list[Hit], int]:
    """Hits until there are ``most``, and the number of the last segment looked at.

    A segment is looked at whole, but for one that has more than ``most`` itself.
    """
    hits: list[Hit] = []
    at = 0
    for segment in segments:
        hits.extend(islice(find(segment), most))
        at = segment.seq
        if len(hits) >= most:
            break
    return hits, at
