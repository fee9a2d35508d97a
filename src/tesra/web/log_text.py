"""A run's log beside its live stream: as a text file, in parts from either end, searched."""

import asyncio
import time
from collections.abc import AsyncIterator

from tesra.kit.ids import RunId
from tesra.training.log_reading import (
    Hit,
    Span,
    count_lines,
    find_in,
    finder,
    is_last,
    newest_segment,
    read_log,
)
from tesra.training.logs import Segment
from tesra.web.context import Services
from tesra.wire.live import LogHit, LogPart, LogParts, LogSearch

SEARCH_S = 2.0  # then what was found is answered, and where to go on
PART_BYTES = 2**18
PART_MOST_BYTES = 2**21


async def log_text(
    services: Services, run: RunId, rank: int | None, *, named: bool
) -> AsyncIterator[bytes]:
    """All lines up to now; ``named``: the rank stands before each."""
    async with services.database.begin() as tx:
        until = await newest_segment(tx, run)
    at = 0
    while at < until:
        async with services.database.begin() as tx:
            segments = await read_log(tx, run, Span(at, until, rank), limit_bytes=PART_BYTES)
        for segment in segments:
            yield _named(segment) if named else segment.data
        at = until if is_last(segments, limit_bytes=PART_BYTES) else segments[-1].seq


async def log_parts(services: Services, run: RunId, span: Span, lines: int) -> LogParts:
    """About so many lines of a span from its beginning, or from its end if it is read backwards.

    Whole segments, in the order of the log; the span has an ``until`` if it is read backwards.
    """
    found: list[Segment] = []
    seen = size = 0
    rest, more = span, True
    while more and seen < lines and size < PART_MOST_BYTES:
        async with services.database.begin() as tx:
            segments = await read_log(tx, run, rest, limit_bytes=PART_BYTES)
        more = not is_last(segments, limit_bytes=PART_BYTES)
        for number, segment in enumerate(segments):
            found.append(segment)
            seen += count_lines(segment.data)
            size += len(segment.data)
            if seen >= lines:
                more |= number + 1 < len(segments)
                break
        if found:
            at = found[-1].seq
            rest = (
                Span(span.after, at - 1, span.rank, backwards=True)
                if span.backwards
                else Span(at, span.until, span.rank)
            )
    ordered = sorted(found, key=lambda segment: segment.seq)
    nothing = (span.until or 0) + 1 if span.backwards else span.after
    return LogParts(
        parts=[_part(segment) for segment in ordered],
        first=ordered[0].seq if ordered else nothing,
        last=ordered[-1].seq if ordered else nothing,
        more=more,
    )


async def search_log(
    services: Services, run: RunId, span: Span, query: str, most: int
) -> LogSearch:
    """Lines that hold the query, the oldest first; in bounded time, a part at a time in memory.

    Hits of one segment stay together: there may be up to twice ``most``.
    """
    ends_at = time.monotonic() + SEARCH_S
    find = finder(query)
    hits: list[Hit] = []
    at, searched = span.after, 0
    while True:
        rest = Span(at, span.until, span.rank)
        async with services.database.begin() as tx:
            segments = await read_log(tx, run, rest)
        found, seen = await asyncio.to_thread(find_in, segments, find, most - len(hits))
        hits.extend(found)
        at = seen or at
        searched += sum(len(segment.data) for segment in segments if segment.seq <= at)
        whole = is_last(segments) and (not segments or at == segments[-1].seq)
        if whole or len(hits) >= most or time.monotonic() > ends_at:
            break
    return LogSearch(
        hits=[_hit(hit) for hit in hits],
        next=None if whole else at,
        searched_bytes=searched,
    )


def _named(segment: Segment) -> bytes:
    name = b"[tesra] " if segment.rank < 0 else b"[%d] " % segment.rank
    lines = segment.data.splitlines(keepends=True)
    return b"".join(name + line for line in lines)


def _part(segment: Segment) -> LogPart:
    text = segment.data.decode("utf-8", errors="replace")
    return LogPart(cursor=segment.seq, attempt=segment.attempt, rank=segment.rank, text=text)


def _hit(hit: Hit) -> LogHit:
    return LogHit(cursor=hit.seq, line=hit.line, attempt=hit.attempt, rank=hit.rank, text=hit.text)
