"""Heads of drives, their history, and what was thrown away; used by the file service alone."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    Row,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from tesra.db.engine import Tx, metadata
from tesra.kit.ids import DriveId, EpochId

_TIME = DateTime(timezone=True)

drive_versions = Table(
    "drive_versions",
    metadata,
    Column("drive_id", Text, ForeignKey("drives.id"), primary_key=True),
    Column("version", BigInteger, primary_key=True),
    Column("epoch_id", Text, ForeignKey("epochs.id"), nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("words", Text, nullable=False),  # what was done, for people
    Column("made_at", _TIME, nullable=False, server_default=func.clock_timestamp()),
)

drive_heads = Table(
    "drive_heads",
    metadata,
    Column("drive_id", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    ForeignKeyConstraint(
        ["drive_id", "version"],
        ["drive_versions.drive_id", "drive_versions.version"],
        name="fk_drive_heads_version",
    ),
)

drive_trash = Table(
    "drive_trash",
    metadata,
    Column("id", Text, primary_key=True),
    Column("drive_id", Text, ForeignKey("drives.id"), nullable=False),
    Column("path", Text, nullable=False),
    Column("version", BigInteger, nullable=False),  # the last that had it
    Column("thrown_at", _TIME, nullable=False, server_default=func.now()),
    Index("ix_drive_trash_drive", "drive_id", "id"),
)


@dataclass(frozen=True, slots=True)
class Version:
    """One state of a drive's tree."""

    number: int
    epoch: EpochId
    root: bytes
    words: str
    made_at: datetime


@dataclass(frozen=True, slots=True)
class Thrown:
    """Something in the trash: it stood at ``path`` in ``version``."""

    id: str
    path: str
    version: int
    thrown_at: datetime


_VERSION = select(drive_versions)


class FileRepository:
    """Every statement about heads, versions and trash."""

    async def head(self, tx: Tx, drive: DriveId) -> Version | None:
        statement = _VERSION.join(
            drive_heads,
            (drive_heads.c.drive_id == drive_versions.c.drive_id)
            & (drive_heads.c.version == drive_versions.c.version),
        ).where(drive_versions.c.drive_id == drive)
        row = (await tx.execute(statement)).one_or_none()
        return _version(row) if row else None

    async def version(self, tx: Tx, drive: DriveId, number: int) -> Version | None:
        statement = _VERSION.where(
            drive_versions.c.drive_id == drive, drive_versions.c.version == number
        )
        row = (await tx.execute(statement)).one_or_none()
        return _version(row) if row else None

    async def versions(
        self, tx: Tx, drive: DriveId, *, before: int | None, limit: int
    ) -> list[Version]:
        """The newest first."""
        statement = _VERSION.where(drive_versions.c.drive_id == drive)
        if before is not None:
            statement = statement.where(drive_versions.c.version < before)
        statement = statement.order_by(drive_versions.c.version.desc()).limit(limit)
        return [_version(row) for row in await tx.execute(statement)]

    async def begin(self, tx: Tx, drive: DriveId, epoch: EpochId, root: bytes) -> bool:
        """The drive's first version; False when it has one already."""
        values = {"drive_id": drive, "version": 1, "epoch_id": epoch, "root": root}
        first = upsert(drive_versions).values(**values, words="made")
        await tx.execute(first.on_conflict_do_nothing())
        made = upsert(drive_heads).values(drive_id=drive, version=1).on_conflict_do_nothing()
        return (await tx.execute(made.returning(drive_heads.c.version))).first() is not None

    async def move_head(
        self, tx: Tx, drive: DriveId, expected: Version, *, root: bytes, words: str
    ) -> bool:
        """Compare and swap: False when the head is not the expected one any more."""
        lock = select(drive_heads.c.version).where(drive_heads.c.drive_id == drive)
        now = (await tx.execute(lock.with_for_update())).scalar_one_or_none()
        if now != expected.number:
            return False
        number = expected.number + 1
        await tx.execute(
            insert(drive_versions).values(
                drive_id=drive, version=number, epoch_id=expected.epoch, root=root, words=words
            )
        )
        await tx.execute(
            update(drive_heads).where(drive_heads.c.drive_id == drive).values(version=number)
        )
        return True

    async def throw(self, tx: Tx, drive: DriveId, id_: str, path: str, version: int) -> None:
        await tx.execute(
            insert(drive_trash).values(id=id_, drive_id=drive, path=path, version=version)
        )

    async def trash(
        self, tx: Tx, drive: DriveId, *, before: str | None, limit: int
    ) -> list[Thrown]:
        """What was thrown away last comes first."""
        statement = select(drive_trash).where(drive_trash.c.drive_id == drive)
        if before is not None:
            statement = statement.where(drive_trash.c.id < before)
        statement = statement.order_by(drive_trash.c.id.desc()).limit(limit)
        return [
            Thrown(row.id, row.path, row.version, row.thrown_at)
            for row in await tx.execute(statement)
        ]

    async def thrown(self, tx: Tx, drive: DriveId, id_: str) -> Thrown | None:
        """One entry."""
        statement = select(drive_trash).where(
            drive_trash.c.drive_id == drive, drive_trash.c.id == id_
        )
        row = (await tx.execute(statement)).one_or_none()
        return Thrown(row.id, row.path, row.version, row.thrown_at) if row else None

    async def take_from_trash(self, tx: Tx, drive: DriveId, id_: str) -> bool:
        """The entry is not in the trash any more; False when it was not before."""
        statement = (
            delete(drive_trash)
            .where(drive_trash.c.drive_id == drive, drive_trash.c.id == id_)
            .returning(drive_trash.c.id)
        )
        return (await tx.execute(statement)).first() is not None

    async def empty_trash(self, tx: Tx, drive: DriveId, older_than: timedelta) -> int:
        border = func.clock_timestamp() - older_than
        statement = delete(drive_trash).where(
            drive_trash.c.drive_id == drive, drive_trash.c.thrown_at <= border
        )
        return len(list(await tx.execute(statement.returning(drive_trash.c.id))))


def _version(row: Row[Any]) -> Version:
    return Version(row.version, EpochId(row.epoch_id), bytes(row.root), row.words, row.made_at)
