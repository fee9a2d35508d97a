"""Roots, marks of garbage, and what is swept; used by the collector alone."""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Column,
    DateTime,
    ForeignKey,
    LargeBinary,
    Table,
    Text,
    any_,
    bindparam,
    delete,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from tesra.db.engine import Tx, metadata
from tesra.drive.collecting import VersionAt
from tesra.drive.files.repository import drive_heads, drive_trash, drive_versions
from tesra.drive.repository import chunks, drives, epochs, pack_marks, packs, snapshots
from tesra.drive.shares.repository import living_roots
from tesra.kit.ids import DriveId, EpochId, UserId

_TIME = DateTime(timezone=True)
_PACKS_A_PAGE = 200

drive_retention = Table(
    "drive_retention",
    metadata,
    Column("drive_id", Text, ForeignKey("drives.id"), primary_key=True),
    Column("keep_from", _TIME, nullable=False),
    Column("asked_at", _TIME, nullable=False, server_default=func.now()),
)


@dataclass(frozen=True, slots=True)
class History:
    """A drive's versions, and what says which of them are kept; ``head`` 0: there are none."""

    head: int
    versions: tuple[VersionAt, ...]
    roots: dict[int, tuple[EpochId, bytes]]
    trashed: frozenset[int]
    asked_from: datetime | None
    now: datetime


@dataclass(frozen=True, slots=True)
class EpochOf:
    """An epoch of a drive; ``managed``: the server has its keys."""

    id: EpochId
    managed: bool


class CollectionRepository:
    """Every statement of the collector."""

    async def owners(self, tx: Tx) -> list[UserId]:
        return [UserId(one) for one in (await tx.execute(select(drives.c.owner))).scalars()]

    async def epochs(self, tx: Tx, drive: DriveId) -> list[EpochOf]:
        statement = select(epochs).where(epochs.c.drive_id == drive).order_by(epochs.c.id)
        return [
            EpochOf(EpochId(row.id), bool(row.wrapped_keys)) for row in await tx.execute(statement)
        ]

    async def history(self, tx: Tx, drive: DriveId) -> History:
        """All versions, what the trash needs, and from when on the owner keeps them."""
        rows = list(
            await tx.execute(select(drive_versions).where(drive_versions.c.drive_id == drive))
        )
        trash = select(drive_trash.c.version).where(drive_trash.c.drive_id == drive)
        asked = select(drive_retention.c.keep_from).where(drive_retention.c.drive_id == drive)
        head = select(drive_heads.c.version).where(drive_heads.c.drive_id == drive)
        return History(
            head=(await tx.scalar(head)) or 0,
            versions=tuple(VersionAt(row.version, row.made_at) for row in rows),
            roots={row.version: (EpochId(row.epoch_id), bytes(row.root)) for row in rows},
            trashed=frozenset((await tx.execute(trash)).scalars()),
            asked_from=await tx.scalar(asked),
            now=(await tx.execute(select(func.clock_timestamp()))).scalar_one(),
        )

    async def snapshot_roots(self, tx: Tx, epoch: EpochId) -> list[bytes]:
        """The trees of snapshots, and those that share links lead to."""
        made = select(snapshots.c.root).where(snapshots.c.epoch_id == epoch)
        statement = made.union(living_roots(epoch))
        return [bytes(root) for root in (await tx.execute(statement)).scalars()]

    async def packs(
        self, tx: Tx, epoch: EpochId, *, older_than: timedelta
    ) -> AsyncIterator[tuple[bytes, int, list[bytes]]]:
        """Each pack of the epoch that is old enough: id, size, chunks."""
        last = b""
        border = func.clock_timestamp() - older_than
        while True:
            page = (
                select(packs.c.id, packs.c.size_bytes)
                .where(packs.c.epoch_id == epoch, packs.c.id > last, packs.c.stored_at <= border)
                .order_by(packs.c.id)
                .limit(_PACKS_A_PAGE)
            )
            rows = list(await tx.execute(page))
            if not rows:
                return
            ids = [bytes(row.id) for row in rows]
            inside: dict[bytes, list[bytes]] = {pack: [] for pack in ids}
            found = select(chunks.c.pack_id, chunks.c.chunk_id).where(
                chunks.c.epoch_id == epoch, chunks.c.pack_id == any_(_ids(ids))
            )
            for row in await tx.execute(found):
                inside[bytes(row.pack_id)].append(bytes(row.chunk_id))
            for row in rows:
                yield bytes(row.id), row.size_bytes, inside[bytes(row.id)]
            last = ids[-1]

    async def mark(self, tx: Tx, epoch: EpochId, garbage: Collection[bytes]) -> None:
        """These packs, and no others of the epoch; what was marked before keeps its time."""
        mine = pack_marks.c.epoch_id == epoch
        await tx.execute(
            delete(pack_marks).where(mine, ~(pack_marks.c.pack_id == any_(_ids(garbage))))
        )
        if garbage:
            rows = [{"epoch_id": epoch, "pack_id": pack} for pack in garbage]
            await tx.execute(upsert(pack_marks).on_conflict_do_nothing(), rows)

    async def unmark_drive(self, tx: Tx, drive: DriveId) -> int:
        """Undo every mark, and what the owner asked about the history."""
        mine = select(epochs.c.id).where(epochs.c.drive_id == drive)
        gone = delete(pack_marks).where(pack_marks.c.epoch_id.in_(mine))
        count = len(list(await tx.execute(gone.returning(pack_marks.c.pack_id))))
        await tx.execute(delete(drive_retention).where(drive_retention.c.drive_id == drive))
        return count

    async def set_retention(self, tx: Tx, drive: DriveId, keep_from: datetime) -> None:
        statement = upsert(drive_retention).values(drive_id=drive, keep_from=keep_from)
        changes: dict[str, Any] = {"keep_from": keep_from, "asked_at": func.clock_timestamp()}
        await tx.execute(statement.on_conflict_do_update(index_elements=["drive_id"], set_=changes))

    async def ripe(self, tx: Tx, epoch: EpochId, grace: timedelta) -> dict[bytes, int]:
        """Marked packs whose grace is over, and their sizes; marks and packs are locked."""
        statement = (
            select(pack_marks.c.pack_id, packs.c.size_bytes)
            .join(
                packs,
                (packs.c.epoch_id == pack_marks.c.epoch_id) & (packs.c.id == pack_marks.c.pack_id),
            )
            .where(
                pack_marks.c.epoch_id == epoch,
                pack_marks.c.marked_at <= func.clock_timestamp() - grace,
            )
            .with_for_update()
        )
        return {bytes(row.pack_id): row.size_bytes for row in await tx.execute(statement)}

    async def lock_head(self, tx: Tx, drive: DriveId) -> int:
        """The number of the head, which nobody moves until the transaction ends."""
        statement = select(drive_heads.c.version).where(drive_heads.c.drive_id == drive)
        return (await tx.scalar(statement.with_for_update())) or 0

    async def remove(self, tx: Tx, epoch: EpochId, pack_ids: Sequence[bytes]) -> None:
        """Index and marks of these packs go."""
        for table, column in (
            (chunks, chunks.c.pack_id),
            (packs, packs.c.id),
            (pack_marks, pack_marks.c.pack_id),
        ):
            await tx.execute(
                delete(table).where(table.c.epoch_id == epoch, column == any_(_ids(pack_ids)))
            )

    async def indexed(self, tx: Tx, pack_ids: Sequence[bytes]) -> set[bytes]:
        """Those that some epoch refers to."""
        statement = select(packs.c.id).where(packs.c.id == any_(_ids(pack_ids)))
        return {bytes(one) for one in (await tx.execute(statement)).scalars()}

    async def forget_versions(self, tx: Tx, drive: DriveId, numbers: Collection[int]) -> None:
        await tx.execute(
            delete(drive_versions).where(
                drive_versions.c.drive_id == drive, drive_versions.c.version.in_(list(numbers))
            )
        )


def _ids(ids: Collection[bytes]) -> Any:
    return bindparam("pack_ids", list(ids), ARRAY(LargeBinary))
