"""Marks of garbage, and from when on a drive's history is kept; used by the collector alone."""

from sqlalchemy import Column, DateTime, ForeignKey, LargeBinary, Table, Text, func

from tesra.db.engine import metadata

_TIME = DateTime(timezone=True)

pack_marks = Table(
    "pack_marks",
    metadata,
    Column("epoch_id", Text, primary_key=True),
    Column("pack_id", LargeBinary, primary_key=True),
    Column("marked_at", _TIME, nullable=False, server_default=func.now()),
)

drive_retention = Table(
    "drive_retention",
    metadata,
    Column("drive_id", Text, ForeignKey("drives.id"), primary_key=True),
    Column("keep_from", _TIME, nullable=False),
    Column("asked_at", _TIME, nullable=False, server_default=func.now()),
)
