"""Deliveries of metrics are added, each byte of a node's spool once, in order.

A run's row in ``metric_runs`` is locked while a delivery is added (as a run's log is), so series
and limits of a run have one writer at a time, and sequence numbers grow in the order of commits.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Text, bindparam, func, select, text, update

from tesra.db.engine import Tx
from tesra.db.notify import CHANNEL, wake_up
from tesra.kit.ids import AttemptId, RunId
from tesra.training.metrics.lines import Batch, Key, read_lines
from tesra.training.metrics.points import (
    Block,
    Columns,
    Summary,
    cut,
    number,
    pack,
    summarise,
    together,
    unpack,
)
from tesra.training.metrics.rows import insert_rows, summary_of, summary_values, update_rows
from tesra.training.metrics.tables import (
    metric_blocks,
    metric_heads,
    metric_params,
    metric_runs,
    metric_series,
)

MAX_NAMES = 2000  # of a run
MAX_POINTS = 20_000_000  # of a run; past it, each delivery keeps the newest of each series
MAX_PARAMS = 1000  # of a run
_LITTLE_BYTES = 2048
_LITTLE_SERIES = 4
_LITTLE_POINTS = 64

Result = TypeVar("Result")

_STORED = text(
    """
    SELECT s.* FROM metric_series s
    JOIN unnest(CAST(:device AS text[]), CAST(:name AS text[]), CAST(:rank AS integer[]),
                CAST(:origin AS text[])) AS k(device, name, rank, origin)
      ON s.device = k.device AND s.name = k.name AND s.rank = k.rank AND s.origin = k.origin
    WHERE s.run_id = :run AND s.attempt = :attempt
    """
)
_KNOWN_NAMES = text(
    """
    SELECT DISTINCT name FROM metric_series
    WHERE run_id = :run AND device = '' AND name = ANY(CAST(:names AS text[]))
    """
)
_LAST_STEPS = text(
    """
    SELECT DISTINCT ON (device, name, rank, origin) device, name, rank, origin, last_step
    FROM metric_series
    WHERE run_id = :run AND attempt < :attempt AND name = ANY(CAST(:names AS text[]))
    ORDER BY device, name, rank, origin, attempt DESC
    """
)
_own_run = metric_runs.c.run_id == bindparam("run")
_own_head = (metric_heads.c.attempt_id == bindparam("of_attempt")) & (
    metric_heads.c.source == bindparam("of_source")
)
_LOCK = select(metric_runs).where(_own_run).with_for_update()
_AT = select(metric_heads.c.offset).where(_own_head)
# The head comes from the run's row, so that this is locked first, as it is everywhere.
_FIRST = text(
    """
    WITH run AS (
        INSERT INTO metric_runs AS own (run_id) VALUES (:run)
        ON CONFLICT (run_id) DO UPDATE SET seq = own.seq
        RETURNING own.*
    ), head AS (
        INSERT INTO metric_heads AS own (attempt_id, source)
        SELECT :of_attempt, CAST(:of_source AS integer) FROM run
        ON CONFLICT (attempt_id, source) DO UPDATE SET "offset" = own."offset"
        RETURNING own."offset"
    )
    SELECT run.*, head."offset" AS held FROM run, head
    """
).bindparams(bindparam("run", type_=Text), bindparam("of_attempt", type_=Text))
_ADVANCE = (
    update(metric_runs)
    .where(_own_run)
    .add_cte(update(metric_heads).where(_own_head).values(offset=bindparam("held")).cte("head"))
    .returning(func.pg_notify(CHANNEL, bindparam("told", type_=Text)))
)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a node sends: ``data`` stands at byte ``offset`` of the spool of ``source``."""

    run: RunId
    attempt: AttemptId
    number: int
    ranks: int
    devices: frozenset[str]
    source: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Added:
    """``offset``: how far the spool is held now; ``full``: the limits that were met just now."""

    offset: int
    full: tuple[str, ...] = ()


@dataclass(slots=True)
class _Series:
    """One series as it is stored; all None when it is new."""

    id: int | None = None
    summary: Summary | None = None
    last_step: int | None = None
    tail: bytes = b""


class MetricStore:
    """The writing side of the tables; the limits are there for tests."""

    def __init__(self, *, max_names: int = MAX_NAMES, max_points: int = MAX_POINTS) -> None:
        self._max_names = max_names
        self._max_points = max_points

    async def add(self, tx: Tx, delivery: Delivery) -> Added:
        """Store what is new of it. A repeated part is skipped, a gap refused by the offset held."""
        run, held = await self._lock(tx, delivery)
        late = held - delivery.offset
        fresh = delivery.data[late:] if late >= 0 else b""
        if not fresh:
            return Added(held)
        reading = partial(read_lines, fresh, ranks=delivery.ranks, devices=delivery.devices)
        batch = await _aside(reading, little=len(fresh) <= _LITTLE_BYTES)
        changes = {"seq": run.seq + 1, "skipped": run.skipped + batch.skipped}
        known = bool(run.seq)  # else nothing of the run is there yet, and need not be looked for
        stored = await self._stored(tx, delivery, batch.series) if known else {}
        changes |= await self._limit_names(tx, run, batch, stored)
        changes |= self._limit_points(run, batch)
        await self._grow(tx, delivery, changes["seq"], batch.series, stored)
        await self._note_params(tx, delivery.run, batch.params)
        await self._advance(tx, delivery, changes, held + len(fresh))
        full = tuple(
            limit
            for limit in ("names_full", "points_full")
            if changes.get(limit) and not getattr(run, limit)
        )
        return Added(held + len(fresh), full)

    async def _lock(self, tx: Tx, delivery: Delivery) -> tuple[Any, int]:
        """Locks the run's metrics; its row, and how far the source's spool is held."""
        own = {"run": delivery.run}
        source = {"of_attempt": delivery.attempt, "of_source": delivery.source}
        if delivery.offset > 0:
            run = (await tx.execute(_LOCK, own)).one_or_none()
            held = (await tx.execute(_AT, source)).scalar_one_or_none() if run is not None else None
            if held is not None:
                return run, held
        run = (await tx.execute(_FIRST, own | source)).one()
        return run, run.held

    async def _stored(self, tx: Tx, delivery: Delivery, keys: Iterable[Key]) -> dict[Key, _Series]:
        """Those series of this attempt that are there already."""
        wanted = list(keys)
        if not wanted:
            return {}
        arrays = {name: [getattr(key, name) for key in wanted] for name in Key._fields}
        rows = await tx.execute(
            _STORED, {"run": delivery.run, "attempt": delivery.number, **arrays}
        )
        return {
            Key(row.name, row.rank, row.origin, row.device): _Series(
                row.id, summary_of(row), row.last_step, bytes(row.tail)
            )
            for row in rows
        }

    async def _limit_names(
        self, tx: Tx, run: Any, batch: Batch, stored: dict[Key, _Series]
    ) -> dict[str, Any]:
        """Drops the names that are too many, in place; what changes of the run's row."""
        names = dict.fromkeys(
            key.name for key in batch.series if not key.device and key not in stored
        )
        if not names:
            return {}
        if run.names:
            asked = {"run": run.run_id, "names": list(names)}
            for name in (await tx.execute(_KNOWN_NAMES, asked)).scalars():
                del names[name]
        room = self._max_names - run.names
        dropped = set(list(names)[max(0, room) :])
        for key in [key for key in batch.series if not key.device and key.name in dropped]:
            del batch.series[key]
        changes: dict[str, Any] = {"names": run.names + len(names) - len(dropped)}
        return changes | ({"names_full": True} if dropped else {})

    def _limit_points(self, run: Any, batch: Batch) -> dict[str, Any]:
        """Thins what is too much, in place; what changes of the run's row."""
        full = run.points + sum(map(len, batch.series.values())) > self._max_points
        if full:
            batch.series = {key: points.part(-1) for key, points in batch.series.items()}
        points = run.points + sum(map(len, batch.series.values()))
        return {"points": points} | ({"points_full": True} if full else {})

    async def _grow(
        self,
        tx: Tx,
        delivery: Delivery,
        seq: int,
        fresh: dict[Key, Columns],
        stored: dict[Key, _Series],
    ) -> None:
        before = await self._last_steps(tx, delivery, [key for key in fresh if key not in stored])
        whose = {"run_id": delivery.run, "attempt": delivery.number, "seq": seq}
        making = partial(_rows, whose, fresh, stored, before)
        points = sum(map(len, fresh.values()))
        little = len(fresh) <= _LITTLE_SERIES and points <= _LITTLE_POINTS
        added, grown, blocks = await _aside(making, little=little)
        await update_rows(tx, metric_series, grown)
        ids = {key: series.id for key, series in stored.items()}
        behind = "RETURNING id, name, rank, origin, device"
        for row in await insert_rows(tx, metric_series, added, behind=behind):
            ids[Key(row.name, row.rank, row.origin, row.device)] = row.id
        rows = [
            {
                "series_id": ids[key],
                "start": block.start,
                "data": block.data,
                **summary_values(block.summary),
            }
            for key, some in blocks.items()
            for block in some
        ]
        await insert_rows(tx, metric_blocks, rows)

    async def _last_steps(self, tx: Tx, delivery: Delivery, keys: list[Key]) -> dict[Key, int]:
        """Where the attempts before had come to, for points that were logged without a step."""
        if delivery.number <= 1 or not keys:
            return {}
        names = [key.name for key in keys]
        asked = {"run": delivery.run, "attempt": delivery.number, "names": names}
        return {
            Key(row.name, row.rank, row.origin, row.device): row.last_step
            for row in await tx.execute(_LAST_STEPS, asked)
        }

    async def _note_params(self, tx: Tx, run: RunId, params: dict[tuple[int, str], str]) -> None:
        rows = [
            {"run_id": run, "rank": rank, "name": name, "value": value}
            for (rank, name), value in list(params.items())[:MAX_PARAMS]
        ]
        behind = (
            "WHERE (SELECT count(*) FROM metric_params WHERE run_id = :run) < :most "
            "ON CONFLICT (run_id, rank, name) DO UPDATE SET value = excluded.value"
        )
        await insert_rows(
            tx, metric_params, rows, behind=behind, more={"run": run, "most": MAX_PARAMS}
        )

    async def _advance(
        self, tx: Tx, delivery: Delivery, changes: dict[str, Any], held: int
    ) -> None:
        head = {"of_attempt": delivery.attempt, "of_source": delivery.source, "held": held}
        told = wake_up(f"metrics:{delivery.run}", metrics=1)
        await tx.execute(_ADVANCE, {"run": delivery.run, "told": told, **head, **changes})


async def _aside(work: Callable[[], Result], *, little: bool) -> Result:
    """In a thread, unless it is less than the way there costs."""
    return work() if little else await asyncio.to_thread(work)


def _rows(
    whose: dict[str, Any],
    fresh: dict[Key, Columns],
    stored: dict[Key, _Series],
    before: dict[Key, int],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[Key, list[Block]]]:
    """Rows of series that are new, of those that have grown, and the blocks that are whole now."""
    added: list[dict[str, Any]] = []
    grown: list[dict[str, Any]] = []
    blocks: dict[Key, list[Block]] = {}
    for key, points in fresh.items():
        series = stored.get(key) or _Series(last_step=before.get(key))
        row, blocks[key] = _grown(series, points)
        if series.id is None:
            added.append(row | whose | key._asdict())
        else:
            grown.append(row | {"id": series.id, "seq": whose["seq"]})
    return added, grown, blocks


def _grown(series: _Series, fresh: Columns) -> tuple[dict[str, Any], list[Block]]:
    """The row of a series with these points added, and the blocks that have become whole."""
    number(fresh, series.last_step)
    summary = together(series.summary, summarise(fresh))
    points = unpack(series.tail)
    start = summary.count - len(fresh) - len(points)
    points.extend(fresh)
    blocks, tail = cut(start, points)
    row = {
        **summary_values(summary),
        "last": fresh.values[-1],
        "last_step": fresh.steps[-1],
        "last_time": fresh.times[-1],
        "tail": pack(tail),
    }
    return row, blocks
