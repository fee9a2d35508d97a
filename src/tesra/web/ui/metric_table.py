"""Metrics as a table for spreadsheets: NDJSON points in, CSV out, a piece at a time."""

import csv
import io
from collections.abc import AsyncIterator, Iterable

from tesra.wire.metrics import MetricPoint

COLUMNS = ("name", "rank", "step", "time", "value", "attempt")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


async def csv_lines(points: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A header and a line for each point."""
    yield _written([COLUMNS])
    async for piece in points:
        lines = [MetricPoint.model_validate_json(line) for line in piece.splitlines() if line]
        if lines:
            yield _written(
                (_plain(one.name), one.rank, one.step, one.time, one.value, one.attempt)
                for one in lines
            )


def _plain(name: str) -> str:
    """A name that a spreadsheet takes for text, never for a formula."""
    return f"'{name}" if name.startswith(_FORMULA) else name


def _written(rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
