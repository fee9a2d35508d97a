"""The import doctor on stored projects."""

from typing import Annotated

from fastapi import APIRouter, Query

from tesra.kit.ids import SnapshotId
from tesra.web.auth import Reader
from tesra.web.context import ServicesDep
from tesra.wire.doctor import DoctorAnswer

router = APIRouter(prefix="/api/v1", tags=["training"])


@router.get("/projects/{project}/doctor")
async def doctor(
    project: str,
    services: ServicesDep,
    caller: Reader,
    entry: Annotated[str | None, Query(max_length=1024)] = None,
) -> DoctorAnswer:
    """What the code of the newest snapshot says about how to run it; read once, then remembered."""
    async with services.database.begin() as tx:
        found = await services.drive.project(tx, caller.user_id, project)
    report = await services.training.doctor.report(
        SnapshotId(found.snapshot), owner=caller.user_id, entry=entry
    )
    return DoctorAnswer(
        project=found.id,
        snapshot=found.snapshot,
        report=report,
        command=report.command(found.name),
    )
