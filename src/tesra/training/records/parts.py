"""Sections that the other parts of training add to a record."""

from dataclasses import asdict
from typing import Any

from tesra.db.engine import Tx
from tesra.kit.ids import RunId, UserId
from tesra.training.checkpoints.service import CheckpointService
from tesra.training.metrics.service import MetricService
from tesra.training.records.service import SectionOf
from tesra.training.repository import RunRow
from tesra.training.tuning.service import TuningService

MAX_NAMES = 1000
MAX_DRAWN = 100
POINTS = 200


def other_sections(
    metrics: MetricService, checkpoints: CheckpointService, tuning: TuningService
) -> dict[str, SectionOf]:
    """By name: how each is made."""

    async def changes(tx: Tx, row: RunRow) -> list[dict[str, Any]]:
        told = await tuning.show(tx, UserId(row.owner), RunId(row.id))
        return [change.model_dump(mode="json") for change in told.changes]

    async def stored(tx: Tx, row: RunRow) -> list[dict[str, Any]]:
        newest_first = await checkpoints.of_run(tx, RunId(row.id))
        return [one.model_dump(mode="json") for one in reversed(newest_first)]

    async def curves(tx: Tx, row: RunRow) -> dict[str, Any]:
        """What each metric came to, and its history with its peaks kept."""
        run = RunId(row.id)
        told = await metrics.overview(tx, run)
        names = [one.name for one in told.names[:MAX_DRAWN]]
        drawn = await metrics.histories(tx, run, names, points=POINTS) if names else []
        return {
            "names": [one.model_dump(mode="json") for one in told.names[:MAX_NAMES]],
            "names_total": len(told.names),
            "points_total": told.points,
            "params": told.params,
            "histories": [asdict(series) for series in drawn],
        }

    return {"tuning": changes, "checkpoints": stored, "metrics": curves}
