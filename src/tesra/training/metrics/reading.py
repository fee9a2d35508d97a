"""The reading side of the tables: heads, summaries, points; bounded in memory."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from sqlalchemy import Select, bindparam, select

from tesra.db.engine import Tx
from tesra.kit.ids import RunId
from tesra.training.metrics.drawing import Axis, Chart, in_order
from tesra.training.metrics.model import Head, Line, Part, Series
from tesra.training.metrics.points import Columns, Spot, Summary, spots, summarise, together, unpack
from tesra.training.metrics.rows import summary_of
from tesra.training.metrics.tables import (
    metric_blocks,
    metric_params,
    metric_runs,
    metric_series,
)
from tesra.training.tables import attempts

MOST_READ = 400_000  # points unpacked for one chart; past it, blocks show by their peaks
_BLOCKS_AT_ONCE = 64
_HEAD = [column for column in metric_series.c if column.name != "tail"]
_SUMMARY = [column for column in metric_blocks.c if column.name != "data"]
_asked = (
    metric_series.c.run_id == bindparam("run"),
    (metric_series.c.device != "") == bindparam("devices"),
    metric_series.c.seq > bindparam("after"),
)
_HEADS: Select[Any] = select(*_HEAD).where(*_asked)
_TAILS: Select[Any] = select(metric_series).where(*_asked)


async def run_row(tx: Tx, run: RunId) -> Any:
    """What is counted of the run; None before its first metric."""
    return (await tx.execute(select(metric_runs).where(metric_runs.c.run_id == run))).one_or_none()


async def heads_of(
    tx: Tx,
    run: RunId,
    *,
    names: Sequence[str] | None = None,
    devices: bool = False,
    after: int = 0,
    tails: bool = False,
) -> list[Head]:
    """The stored series of a run that grew behind delivery ``after``; of devices, or of ranks."""
    asked = {"run": run, "devices": devices, "after": after}
    statement = _TAILS if tails else _HEADS
    if names is not None:
        statement = statement.where(metric_series.c.name.in_(names))
    return [_head(row) for row in await tx.execute(statement, asked)]


async def device_places(tx: Tx, run: RunId) -> dict[str, tuple[str, int]]:
    """The devices of a run's attempts: the node of each, and its number there."""
    lists = await tx.execute(select(attempts.c.devices).where(attempts.c.run_id == run))
    return {one["device"]: (one["node"], one["index"]) for row in lists for one in row.devices}


async def logged_params(tx: Tx, run: RunId) -> dict[str, str]:
    """What the script itself has logged as parameters; the lowest rank's where they differ."""
    statement = (
        select(metric_params.c.name, metric_params.c.value)
        .where(metric_params.c.run_id == run)
        .order_by(metric_params.c.name, metric_params.c.rank.desc())
    )
    return {row.name: row.value for row in await tx.execute(statement)}


async def summary_of_line(tx: Tx, line: Line) -> Summary:
    """What counts of a line, exactly; reads points only where an attempt counts in part."""
    total: Summary | None = None
    for part in line.parts:
        if part.whole:
            total = together(total, part.head.summary)
            continue
        until = part.until or 0
        for summary, columns in await _pieces(tx, part):
            some = summary
            if columns is not None:
                kept = columns.before(until)
                some = summarise(kept) if len(kept) else None
            total = together(total, some) if some is not None else total
    assert total is not None, "a line has points"
    return total


async def draw(tx: Tx, line: Line, axis: Axis, points: int) -> Series:
    """A line for a chart, with at most so many points."""
    count = sum(part.head.summary.count for part in line.parts)
    if count <= points:
        every = [spot for part in line.parts for spot in spots(await _all_points(tx, part))]
        bad = sum(not math.isfinite(spot.value) for spot in every)
        return _series(line, in_order(every, axis), len(every), bad)
    gaps = any(part.head.summary.nonfinite for part in line.parts)
    chart = Chart(axis, *_ends(line, axis), points, gaps=gaps)
    for part in line.parts:
        await _draw_part(tx, chart, part)
    chart.keep(line.last)
    return _series(line, chart.drawn(), chart.count, chart.nonfinite)


async def points_of(
    tx: Tx, head: Head, *, start: int, until: int | None = None
) -> tuple[Columns, int]:
    """The next points of a stored series from number ``start`` on, and the number behind them.

    At most some blocks at once; the number stays when there are no more.
    """
    fresh = select(metric_series.c.points, metric_series.c.tail)
    row = (await tx.execute(fresh.where(metric_series.c.id == head.id))).one()
    blocks = (
        select(metric_blocks.c.start, metric_blocks.c.points, metric_blocks.c.data)
        .where(
            metric_blocks.c.series_id == head.id,
            metric_blocks.c.start + metric_blocks.c.points > start,
        )
        .order_by(metric_blocks.c.start)
        .limit(_BLOCKS_AT_ONCE)
    )
    columns, at = Columns(), start
    for block in await tx.execute(blocks):
        columns.extend(unpack(block.data).part(at - block.start))
        at = block.start + block.points
    tail = unpack(row.tail)
    begins = row.points - len(tail)
    if begins <= at < row.points:  # else there are more blocks to read first
        columns.extend(tail.part(at - begins))
        at = row.points
    return columns if until is None else columns.before(until), at


async def _draw_part(tx: Tx, chart: Chart, part: Part) -> None:
    until = part.until
    summaries: list[tuple[int, Summary]] = []
    read: list[tuple[int, Summary]] = []
    for start, summary in await _summaries(tx, part):
        counts = until is None or summary.max_step < until
        (summaries if counts and chart.fits(summary) else read).append((start, summary))
    if sum(summary.count for _, summary in read) > MOST_READ:
        summaries, read = [*summaries, *read], []
    for _, summary in summaries:
        chart.add_summary(summary)
    tail = unpack(part.head.tail or b"")
    async for columns in _data(tx, part.head, [start for start, _ in read]):
        await asyncio.to_thread(chart.add, columns if until is None else columns.before(until))
    chart.add(tail if until is None else tail.before(until))


async def _all_points(tx: Tx, part: Part) -> Columns:
    columns, at = await points_of(tx, part.head, start=0, until=part.until)
    while at < part.head.summary.count:
        more, at = await points_of(tx, part.head, start=at, until=part.until)
        columns.extend(more)
    return columns


async def _pieces(tx: Tx, part: Part) -> list[tuple[Summary | None, Columns | None]]:
    """Of a part: summaries of blocks that count whole; points of those that count in part."""
    until = part.until or 0
    found: list[tuple[Summary | None, Columns | None]] = []
    read: list[int] = []
    for start, summary in await _summaries(tx, part):
        if summary.max_step < until:
            found.append((summary, None))
        else:
            read.append(start)
    found.extend([(None, columns) async for columns in _data(tx, part.head, read)])
    tail = unpack(part.head.tail or b"")
    return [*found, (None, tail)] if len(tail) else found


async def _summaries(tx: Tx, part: Part) -> list[tuple[int, Summary]]:
    """Of the blocks that were there when the head was read."""
    columns = metric_blocks.c
    statement = select(*_SUMMARY).where(columns.series_id == part.head.id)
    if part.until is not None:
        statement = statement.where(columns.min_step < part.until)
    if part.head.tail is not None:
        whole = part.head.summary.count - len(unpack(part.head.tail))
        statement = statement.where(columns.start < whole)
    rows = await tx.execute(statement.order_by(columns.start))
    return [(row.start, summary_of(row)) for row in rows]


async def _data(tx: Tx, head: Head, starts: Sequence[int]) -> AsyncIterator[Columns]:
    for at in range(0, len(starts), _BLOCKS_AT_ONCE):
        statement = select(metric_blocks.c.data).where(
            metric_blocks.c.series_id == head.id,
            metric_blocks.c.start.in_(starts[at : at + _BLOCKS_AT_ONCE]),
        )
        for row in await tx.execute(statement.order_by(metric_blocks.c.start)):
            yield unpack(row.data)


def _ends(line: Line, axis: Axis) -> tuple[float, float]:
    of = [part.head.summary for part in line.parts]
    if axis == "step":
        return min(one.min_step for one in of), max(one.max_step for one in of)
    return min(one.min_time for one in of), max(one.max_time for one in of)


def _series(line: Line, shown: Iterable[Spot], count: int, nonfinite: int) -> Series:
    listed = list(shown)
    return Series(
        name=line.name,
        rank=line.rank,
        origin=line.origin,
        device=line.device,
        steps=[spot.step for spot in listed],
        times=[spot.time for spot in listed],
        values=[spot.value if math.isfinite(spot.value) else None for spot in listed],
        count=count,
        nonfinite=nonfinite,
    )


def _head(row: Any) -> Head:
    return Head(
        id=row.id,
        device=row.device,
        name=row.name,
        rank=row.rank,
        attempt=row.attempt,
        origin=row.origin,
        seq=row.seq,
        summary=summary_of(row),
        last=Spot(row.last_step, row.last_time, row.last),
        tail=bytes(row.tail) if "tail" in row._fields else None,
    )
