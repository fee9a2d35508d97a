"""Rows in bulk, a whole column as one array; and summaries as columns of a row."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Double, Integer, LargeBinary, Table, Text, TextClause, text

from tesra.db.engine import Tx
from tesra.training.metrics.points import Spot, Summary

_TYPES: dict[type, str] = {
    Text: "text",
    Integer: "integer",
    BigInteger: "bigint",
    Double: "double precision",
    LargeBinary: "bytea",
}


def summary_values(summary: Summary) -> dict[str, Any]:
    """As columns."""
    low, high = summary.low, summary.high
    return {
        "points": summary.count,
        "nonfinite": summary.nonfinite,
        "min_step": summary.min_step,
        "max_step": summary.max_step,
        "min_time": summary.min_time,
        "max_time": summary.max_time,
        "low": low.value if low else None,
        "low_step": low.step if low else None,
        "low_time": low.time if low else None,
        "high": high.value if high else None,
        "high_step": high.step if high else None,
        "high_time": high.time if high else None,
    }


def summary_of(row: Any) -> Summary:
    """From the columns of a series or a block."""
    return Summary(
        count=row.points,
        nonfinite=row.nonfinite,
        min_step=row.min_step,
        max_step=row.max_step,
        min_time=row.min_time,
        max_time=row.max_time,
        low=None if row.low is None else Spot(row.low_step, row.low_time, row.low),
        high=None if row.high is None else Spot(row.high_step, row.high_time, row.high),
    )


async def insert_rows(
    tx: Tx,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    behind: str = "",
    more: Mapping[str, Any] | None = None,
) -> Sequence[Any]:
    """Insert rows of equal columns; ``behind``: what follows, say ``RETURNING id``, with ``more``."""
    if not rows:
        return []
    names = tuple(rows[0])
    done = await tx.execute(_insert(table, names, behind), _arrays(rows, names) | dict(more or {}))
    return done.all() if done.returns_rows else []


async def update_rows(tx: Tx, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Update rows of equal columns by their ``id``."""
    if rows:
        names = tuple(rows[0])
        await tx.execute(_update(table, names), _arrays(rows, names))


@cache
def _insert(table: Table, names: tuple[str, ...], behind: str) -> TextClause:
    columns = ", ".join(f'"{name}"' for name in names)
    return text(
        f'INSERT INTO "{table.name}" ({columns}) '  # noqa: S608 - names of our own tables
        f"SELECT * FROM {_unnest(table, names)} {behind}"
    )


@cache
def _update(table: Table, names: tuple[str, ...]) -> TextClause:
    columns = ", ".join(f'"{name}"' for name in names)
    changes = ", ".join(f'"{name}" = new."{name}"' for name in names if name != "id")
    return text(
        f'UPDATE "{table.name}" AS old SET {changes} '  # noqa: S608 - names of our own tables
        f"FROM {_unnest(table, names)} AS new({columns}) WHERE old.id = new.id"
    )


def _unnest(table: Table, names: tuple[str, ...]) -> str:
    types = {name: _TYPES[type(table.c[name].type)] for name in names}
    return f"unnest({', '.join(f'CAST(:{name} AS {types[name]}[])' for name in names)})"


def _arrays(rows: Sequence[Mapping[str, Any]], names: tuple[str, ...]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in names}
