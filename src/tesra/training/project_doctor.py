"""The import doctor on stored snapshots: each is examined once, in a process of its own, and kept."""

import asyncio
import contextlib
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Column, DateTime, ForeignKey, Integer, Table, Text, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from tesra.db.engine import Database, metadata
from tesra.doctor.examine import examine, is_wanted
from tesra.doctor.project import MAX_FILES, MAX_TOTAL_BYTES
from tesra.doctor.report import Caution, Report
from tesra.drive.sampling import Sample
from tesra.drive.service import DriveService
from tesra.kit import saying
from tesra.kit.ids import SnapshotId, UserId
from tesra.training import doctor_process
from tesra.training.entries import entry_files

VERSION = 3  # of what the doctor says: raised when it says more, or other things, of the same code
TIMEOUT_S = 30.0
MAX_PATHS = 200_000
MAX_LISTED = 300  # of each list of a report
_AT_ONCE = 2

log = logging.getLogger(__name__)
_report = TypeAdapter(Report)

doctor_reports = Table(
    "doctor_reports",
    metadata,
    Column("snapshot_id", Text, ForeignKey("snapshots.id", ondelete="CASCADE"), primary_key=True),
    Column("entry", Text, primary_key=True),  # what is started; empty: what the doctor proposes
    Column("version", Integer, nullable=False),
    Column("report", JSONB, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)


class ProjectDoctor:
    """Reports on snapshots, for whoever may read them."""

    def __init__(self, database: Database, drive: DriveService) -> None:
        self._database = database
        self._drive = drive
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def report(
        self, snapshot: SnapshotId, *, owner: UserId, entry: str | None = None
    ) -> Report:
        """What the code says, seen from ``entry`` if that is known; never fails for what it holds."""
        await self._drive.snapshot(snapshot, owner=owner)
        known = await self._kept(snapshot, entry or "")
        if known is not None:
            return known
        async with self._turns:
            known = await self._kept(snapshot, entry or "")
            return known or await self._examine(snapshot, entry)

    async def _examine(self, snapshot: SnapshotId, entry: str | None) -> Report:
        sample = await self._drive.sample(
            snapshot, is_wanted, most_files=MAX_FILES, most_bytes=MAX_TOTAL_BYTES
        )
        report = await _examined_apart(sample, entry)
        if entry is not None and not set(entry_files(entry)).intersection(sample.paths):
            return report  # names no file: not worth remembering
        async with self._database.begin() as tx:
            values = {"version": VERSION, "report": report.as_dict()}
            statement = upsert(doctor_reports).values(
                snapshot_id=snapshot, entry=entry or "", **values
            )
            await tx.execute(
                statement.on_conflict_do_update(
                    index_elements=["snapshot_id", "entry"], set_=values
                )
            )
        return report

    async def _kept(self, snapshot: SnapshotId, entry: str) -> Report | None:
        statement = select(doctor_reports.c.report).where(
            doctor_reports.c.snapshot_id == snapshot,
            doctor_reports.c.entry == entry,
            doctor_reports.c.version == VERSION,
        )
        async with self._database.begin() as tx:
            stored = (await tx.execute(statement)).scalar_one_or_none()
        return None if stored is None else _report.validate_python(stored)


async def _examined_apart(sample: Sample, entry: str | None) -> Report:
    """By a process that dies when it takes too much; then all that is known is that it did."""
    paths = sample.paths[:MAX_PATHS]
    files = [(path, len(content)) for path, content in sample.contents.items()]
    head = json.dumps({"entry": entry, "paths": paths, "files": files}).encode() + b"\n"
    root = str(Path(doctor_process.__file__).parents[2])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", doctor_process.__file__, root),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        given = b"".join([head, *sample.contents.values()])
        said, complaint = await asyncio.wait_for(process.communicate(given), TIMEOUT_S)
        return _bounded(_report.validate_json(said))
    except (TimeoutError, ValidationError) as error:
        ended = process.returncode
        words = "" if isinstance(error, TimeoutError) else complaint.decode(errors="replace")
        log.warning("the doctor's process ended with %s: %s", ended, words[-500:])
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    text = saying.said("the code is too large, or too deeply nested, to be looked at")
    return replace(examine({}, ()), warnings=(Caution("limit", text),))


def _bounded(report: Report) -> Report:
    return replace(
        report,
        data=report.data[:MAX_LISTED],
        warnings=report.warnings[:MAX_LISTED],
        output=replace(report.output, written=report.output.written[:MAX_LISTED]),
    )
