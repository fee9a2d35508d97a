"""The few numbers that a run's record shows: cheap, for it is asked for often."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on

from tesra.db.engine import Tx
from tesra.kit.ids import RunId
from tesra.training.metrics.tables import metric_series
from tesra.wire.metric_names import Value, said, telling

MOST_SHOWN = 8


async def main_metric_of(tx: Tx, runs: Sequence[str]) -> dict[str, dict[str, Value]]:
    """By run: its most telling metric with its newest value, of the lowest rank."""
    columns = metric_series.c
    statement = (
        select(columns.run_id, columns.name, columns.last)
        .ext(distinct_on(columns.run_id, columns.name))
        .where(columns.run_id.in_(runs), columns.device == "")
        .order_by(
            columns.run_id,
            columns.name,
            columns.rank,
            columns.attempt.desc(),
            columns.last_time.desc(),
        )
    )
    newest: dict[str, dict[str, Value]] = {}
    for row in await tx.execute(statement):
        newest.setdefault(row.run_id, {})[row.name] = said(row.last)
    return {
        run: {name: values[name]} for run, values in newest.items() for name in telling(values)[:1]
    }


async def main_values(tx: Tx, run: RunId) -> dict[str, Value]:
    """The newest values of the most telling metrics of a run, of the lowest rank; may be empty."""
    columns = metric_series.c
    statement = (
        select(columns.name, columns.last)
        .ext(distinct_on(columns.name))
        .where(columns.run_id == run, columns.device == "")
        .order_by(columns.name, columns.rank, columns.attempt.desc(), columns.last_time.desc())
    )
    newest = {row.name: said(row.last) for row in await tx.execute(statement)}
    return {name: newest[name] for name in telling(newest)[:MOST_SHOWN]}
