"""A run's metrics as they come, in lines of JSON: the newest values, or every point.

Bounded memory for any viewer, as with the log: what is to be sent is read from the database as
fast as the viewer takes it.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tesra.db.notify import Subscription
from tesra.kit.ids import RunId, UserId
from tesra.training.metrics.model import Head, Latest, lines_of
from tesra.training.metrics.points import Columns
from tesra.training.metrics.reading import points_of
from tesra.web.context import Services
from tesra.web.log_stream import QUIET_S, TERMINAL
from tesra.wire.metric_names import said
from tesra.wire.metrics import MetricNews, MetricPoint, MetricValue

SIGN_OF_LIFE = b"\n"  # from time to time, while there is nothing to tell
AT_MOST_EACH_S = 0.5  # news are gathered for so long; nobody draws faster


@dataclass(frozen=True, slots=True)
class MetricView:
    """What one viewer asked for."""

    owner: UserId
    run: RunId
    names: tuple[str, ...] | None = None
    after: int = 0
    follow: bool = False


async def metric_news(services: Services, view: MetricView) -> AsyncIterator[bytes]:
    """``MetricNews`` lines; ends behind a terminal state, or after one without ``follow``."""
    cursor, told = view.after, ""
    with (
        services.listener.subscribe(f"metrics:{view.run}") as news,
        services.listener.subscribe(f"run:{view.run}") as changes,
    ):
        while True:
            async with services.database.begin() as tx:
                run = await services.training.run(tx, view.owner, view.run)
                newest = await services.metrics.cursor(tx, view.run)
                values = await services.metrics.latest(tx, view.run, after=cursor)
            if values or run.state != told or not view.follow:
                cursor, told = max(cursor, newest), run.state
                shown = [_value(value) for value in values]
                yield _line(MetricNews(cursor=cursor, state=run.state, values=shown))
            if run.state in TERMINAL or not view.follow:
                return
            if not await _either(news, changes):
                yield SIGN_OF_LIFE
            if services.listener.ending:
                return
            await asyncio.sleep(AT_MOST_EACH_S)


async def metric_points(services: Services, view: MetricView) -> AsyncIterator[bytes]:
    """``MetricPoint`` lines, full resolution. Each step once; with ``follow`` all that is stored."""
    if not view.follow:
        async with services.database.begin() as tx:
            lines = lines_of(await services.metrics.heads(tx, view.run, names=view.names))
        for part in (part for line in lines for part in line.parts):
            async for piece in _points(services, part.head, start=0, until=part.until):
                yield piece
        return
    sent: dict[int, int] = {}  # points of each series
    seen = 0
    with (
        services.listener.subscribe(f"metrics:{view.run}") as news,
        services.listener.subscribe(f"run:{view.run}") as changes,
    ):
        while True:
            async with services.database.begin() as tx:
                run = await services.training.run(tx, view.owner, view.run)
                newest = await services.metrics.cursor(tx, view.run)
                heads = await services.metrics.heads(tx, view.run, names=view.names, after=seen)
            for head in heads:
                async for piece in _points(services, head, start=sent.get(head.id, 0)):
                    yield piece
                sent[head.id] = head.summary.count
            seen = newest
            if run.state in TERMINAL:
                return
            if not await _either(news, changes):
                yield SIGN_OF_LIFE
            if services.listener.ending:
                return
            await asyncio.sleep(AT_MOST_EACH_S)


async def _points(
    services: Services, head: Head, *, start: int, until: int | None = None
) -> AsyncIterator[bytes]:
    """The points that the head knows of, from number ``start`` on."""
    at, end = start, head.summary.count
    while at < end:
        async with services.database.begin() as tx:
            columns, behind = await points_of(tx, head, start=at)
        columns = columns.part(0, end - at)
        at = behind
        kept = columns if until is None else columns.before(until)
        if len(kept):
            yield await asyncio.to_thread(_written, head, kept)


def _written(head: Head, columns: Columns) -> bytes:
    """A line of JSON for each point; written by hand, since there may be millions."""
    first = MetricPoint(
        name=head.name,
        rank=head.rank,
        step=0,
        time=0,
        value=0,
        attempt=head.attempt,
        origin=head.origin,
    )
    name, _, rest = first.model_dump_json().partition('"step":0,"time":0.0,"value":0.0')
    lines = [
        f'{name}"step":{step},"time":{time!r},"value":{_number(value)}{rest}\n'
        for step, time, value in zip(columns.steps, columns.times, columns.values, strict=True)
    ]
    return "".join(lines).encode()


def _number(value: float) -> str:
    shown = said(value)
    return f'"{shown}"' if isinstance(shown, str) else repr(shown)


async def _either(*subscriptions: Subscription) -> bool:
    """Wait until one of them has something new, which it answers, or for ``QUIET_S``."""
    waits = [asyncio.create_task(one.wait(QUIET_S)) for one in subscriptions]
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return any(one.result() for one in done)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def _value(latest: Latest) -> MetricValue:
    return MetricValue(
        name=latest.name,
        rank=latest.rank,
        step=latest.step,
        value=said(latest.value),
        at=latest.at,
    )


def _line(news: MetricNews) -> bytes:
    return news.model_dump_json().encode() + b"\n"
