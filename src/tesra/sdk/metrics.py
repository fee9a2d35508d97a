"""The verbs of metrics: names, histories, all points, and what comes while a run goes on."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal
from urllib.parse import quote

from pydantic import ValidationError

from tesra.kit.errors import Unavailable
from tesra.sdk.connection import Connection
from tesra.sdk.follow import (
    TERMINAL_STATES,
    Gap,
    LogNotUnderstood,
    Reconnection,
    Silence,
    StreamBroken,
    follow_stream,
    lines_of,
)
from tesra.wire.metrics import MetricHistory, MetricNews, MetricPoint, Metrics
from tesra.wire.training import Run


class MetricVerbs:
    """What ``Client`` can ask about a run's metrics."""

    connection: Connection

    def metrics(self, run: str, *, rank: int | None = None) -> Metrics:
        """Every name with its newest, lowest and highest value."""
        return self.connection.get(_path(run), Metrics, {"rank": rank})

    def metric_history(
        self,
        run: str,
        *names: str,
        rank: int | None = None,
        points: int = 500,
        x: Literal["step", "time"] = "step",
    ) -> MetricHistory:
        """Metrics for charts: at most ``points`` each, the peaks among them kept."""
        query = {"name": list(names), "rank": rank, "points": points, "x": x}
        return self.connection.get(f"{_path(run)}/history", MetricHistory, query)

    def device_use(self, run: str, *, points: int = 500) -> MetricHistory:
        """Use (0 to 1), memory and power of the run's devices over time."""
        return self.connection.get(f"{_path(run)}/devices", MetricHistory, {"points": points})

    def metric_points(self, run: str, *names: str) -> Iterator[MetricPoint]:
        """All points stored now, each step once; read as they are asked for."""
        query = {"name": list(names) or None}
        with self.connection.stream(f"{_path(run)}/export", query) as blocks:
            yield from _points(blocks)

    def follow_points(
        self, run: str, *, again: Reconnection | None = None
    ) -> Iterator[list[MetricPoint]]:
        """Every point of every attempt, as they come, until the run has ended; in lists.

        A list is what came at once. After a lost connection the stream begins anew, and what was
        had already is left out: the points of a series always come in the same order.
        """
        had: Counter[tuple[str, int, int, str]] = Counter()
        gap: Gap | None = None
        while True:
            trouble: Unavailable | None = None
            try:
                with self.connection.stream(f"{_path(run)}/export", {"follow": "true"}) as blocks:
                    for fresh in _unseen(blocks, had):
                        gap = None
                        yield fresh
                found = self.connection.get(f"/runs/{quote(run, safe='')}", Run)
                if found.state in TERMINAL_STATES:
                    return
            except LogNotUnderstood:
                raise
            except Silence:
                pass
            except Unavailable as error:
                trouble = error
            gap = gap or Gap(again or Reconnection())
            gap.wait(trouble)

    def metric_news(
        self, run: str, *, after: int = 0, live: bool = True, again: Reconnection | None = None
    ) -> Iterator[MetricNews]:
        """The newest values as they come, until the run has ended; survives lost connections."""
        query = {"follow": "true" if live else "false"}
        return follow_stream(
            lambda cursor: self.connection.stream(
                f"{_path(run)}/stream", {**query, "after": cursor}
            ),
            MetricNews,
            live=live,
            after=str(after),
            again=again,
        )


def _points(blocks: Iterable[bytes]) -> Iterator[MetricPoint]:
    for line in lines_of(blocks):
        if line.strip():
            yield _point(line)


def _unseen(
    blocks: Iterable[bytes], had: Counter[tuple[str, int, int, str]]
) -> Iterator[list[MetricPoint]]:
    """The points that were not had yet, a list for each block; counts them in ``had``."""
    come: Counter[tuple[str, int, int, str]] = Counter()
    rest = b""
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        fresh = []
        for point in map(_point, filter(None, lines)):
            series = (point.name, point.rank, point.attempt, point.origin)
            come[series] += 1
            if come[series] > had[series]:
                had[series] = come[series]
                fresh.append(point)
        yield fresh


def _point(line: bytes) -> MetricPoint:
    try:
        return MetricPoint.model_validate_json(line)
    except ValidationError as error:
        if any(found["type"] == "json_invalid" for found in error.errors()):
            raise StreamBroken from error  # cut off in the middle
        raise LogNotUnderstood(way_out="Are client and server of the same version?") from error


def _path(run: str) -> str:
    return f"/runs/{quote(run, safe='')}/metrics"
