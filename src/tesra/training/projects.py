"""A project is removed: what its runs need stays, and one that is in use is not removed."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Select, cast, func, select, text
from sqlalchemy.dialects.postgresql import JSONPATH

from tesra.db.engine import Tx
from tesra.drive.removal import ProjectRemoval
from tesra.drive.service import DriveService
from tesra.kit.errors import Conflict
from tesra.kit.ids import SnapshotId, UserId
from tesra.training.checkpoints.tables import checkpoints
from tesra.training.model import LIVE, RunState
from tesra.training.sweeps.repository import sweeps
from tesra.training.tables import runs
from tesra.wire.drive import Project, ProjectRemoved

_ACTIVE = sorted(state.value for state in {*LIVE, RunState.QUEUED})
_GOING = ("running", "stopping")
_NAMED = 5


class ProjectInUse(Conflict):
    """A run of this project has not ended."""


class ProjectService:
    """From the user's side; records, bills, outputs and checkpoints of its runs stay."""

    def __init__(self, drive: DriveService) -> None:
        self._removal = ProjectRemoval(drive)

    async def remove(self, tx: Tx, owner: UserId, name_or_id: str) -> ProjectRemoved:
        """Raises ``ProjectInUse`` while one of its runs or sweeps is active.

        The code that runs were made of stays with their records; all other versions become garbage.
        """
        project, own = await self._removal.claim(tx, owner, name_or_id)
        await self._require_idle(tx, owner, project)
        kept = await self._needed(tx, owner, own)
        return await self._removal.remove(tx, project, own=own, kept=kept)

    async def _require_idle(self, tx: Tx, owner: UserId, project: Project) -> None:
        active = (
            select(runs.c.id)
            .where(runs.c.owner == owner, runs.c.project_id == project.id)
            .where(runs.c.state.in_(_ACTIVE))
        )
        going = (
            select(sweeps.c.id)
            .where(sweeps.c.owner == owner, sweeps.c.project_id == project.id)
            .where(sweeps.c.state.in_(_GOING))
        )
        found = [
            *(await tx.execute(going.order_by(sweeps.c.id).limit(_NAMED))).scalars(),
            *(await tx.execute(active.order_by(runs.c.id).limit(_NAMED))).scalars(),
        ]
        if found:
            command = "sweep stop" if found[0].startswith("swp_") else "stop"
            raise ProjectInUse(
                f"'{project.name}' is in use by {', '.join(found[:_NAMED])}.",
                way_out=f"Wait for the end, or `tesra {command} {found[0]}`; then remove it.",
                active=found[:_NAMED],
            )

    async def _needed(self, tx: Tx, owner: UserId, own: Collection[SnapshotId]) -> set[SnapshotId]:
        """Those that runs were made of, left, or read; and those that sweeps go on with."""
        mine = runs.c.owner == owner
        spec = sweeps.c.spec["run"]
        uses: list[Select[tuple[str]]] = [
            select(runs.c.snapshot_id).where(mine),
            select(runs.c.output_id).where(mine, runs.c.output_id.is_not(None)),
            select(checkpoints.c.snapshot_id)
            .join(runs, runs.c.id == checkpoints.c.run_id)
            .where(mine),
            _data(runs.c.spec["data"], mine),
            select(spec["snapshot"].astext).where(sweeps.c.owner == owner),
            _data(spec["data"], sweeps.c.owner == owner),
        ]
        needed: set[SnapshotId] = set()
        for use in uses:
            used = use.subquery()
            found = select(used.c[0]).where(used.c[0].in_(sorted(own))).distinct()
            needed |= {SnapshotId(one) for one in (await tx.execute(found)).scalars()}
        return needed


def _data(listed: ColumnElement[Any], mine: ColumnElement[bool]) -> Select[tuple[str]]:
    """The snapshots of data sets."""
    each = func.jsonb_path_query(listed, cast("$[*].snapshot", JSONPATH))
    return select(each.op("#>>")(text("'{}'")).label("snapshot")).where(mine)
