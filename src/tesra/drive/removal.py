"""Projects are removed: their names, their versions, and the snapshots that nobody else refers to.

A snapshot that is gone frees its packs by the collector's rules: found, marked, swept after a grace.
"""

from collections.abc import Collection

from sqlalchemy import delete, exists, select

from tesra.db.engine import Tx
from tesra.drive.repository import imports, project_snapshots, projects, snapshots
from tesra.drive.service import DriveService
from tesra.kit.ids import ProjectId, SnapshotId, UserId
from tesra.wire.drive import Project, ProjectRemoved


class ProjectRemoval:
    """Two steps of one transaction: ``claim``, then ``remove`` what nobody needs."""

    def __init__(self, drive: DriveService) -> None:
        self._drive = drive

    async def claim(
        self, tx: Tx, owner: UserId, name_or_id: str
    ) -> tuple[Project, set[SnapshotId]]:
        """The project, locked, so that no run begins on it meanwhile; and its snapshots."""
        project = await self._drive.project(tx, owner, name_or_id, hold="to remove")
        own = select(project_snapshots.c.snapshot_id).where(
            project_snapshots.c.project_id == project.id
        )
        found = (await tx.execute(own)).scalars()
        return project, {SnapshotId(one) for one in found}

    async def remove(
        self, tx: Tx, project: Project, *, own: Collection[SnapshotId], kept: Collection[SnapshotId]
    ) -> ProjectRemoved:
        """The project is gone, and those of its ``own`` snapshots that are not ``kept`` either."""
        this = ProjectId(project.id)
        await tx.execute(delete(imports).where(imports.c.project_id == this))
        await tx.execute(delete(project_snapshots).where(project_snapshots.c.project_id == this))
        await tx.execute(delete(projects).where(projects.c.id == this))
        of_another = exists().where(project_snapshots.c.snapshot_id == snapshots.c.id)
        gone = delete(snapshots).where(
            snapshots.c.id.in_(sorted(set(own) - set(kept))), ~of_another
        )
        freed = list((await tx.execute(gone.returning(snapshots.c.id))).scalars())
        return ProjectRemoved(
            project=this, name=project.name, removed=len(freed), kept=len(own) - len(freed)
        )
