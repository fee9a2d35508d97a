"""Private drives in the database; used by the private drives' service alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Row,
    Table,
    Text,
    any_,
    bindparam,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from tesra.db.engine import Tx, metadata
from tesra.drive.model import PRIVATE_PURPOSE
from tesra.drive.repository import chunks, drives, epochs, packs
from tesra.kit.ids import DriveId, EpochId, UserId
from tesra.storage.pointers import SignedPointer

_TIME = DateTime(timezone=True)
_BATCH = 5_000

private_drives = Table(
    "private_drives",
    metadata,
    Column("id", Text, primary_key=True),
    Column("drive_id", Text, ForeignKey("drives.id"), nullable=False),
    Column("verify_key", LargeBinary, nullable=False),
    Column("number", Integer, nullable=False),  # of the key document
    Column("document", LargeBinary, nullable=False),
    Column("epoch_id", Text, ForeignKey("epochs.id"), nullable=False),  # the one to write under
    Column("version", BigInteger, nullable=False, server_default=text("0")),  # 0: nothing put yet
    Column("created_at", _TIME, nullable=False, server_default=func.now()),
    Index("ix_private_drives_drive", "drive_id", "id"),
)

private_epochs = Table(
    "private_epochs",
    metadata,
    Column("epoch_id", Text, ForeignKey("epochs.id"), primary_key=True),
    Column("private_id", Text, ForeignKey("private_drives.id"), nullable=False),
    Index("ix_private_epochs_drive", "private_id"),
)

private_versions = Table(
    "private_versions",
    metadata,
    Column("private_id", Text, ForeignKey("private_drives.id"), primary_key=True),
    Column("version", BigInteger, primary_key=True),
    Column("epoch_id", Text, ForeignKey("epochs.id"), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("stored_at", _TIME, nullable=False, server_default=func.clock_timestamp()),
)

private_packs = Table(
    "private_packs",
    metadata,
    Column("private_id", Text, ForeignKey("private_drives.id"), primary_key=True),
    Column("epoch_id", Text, primary_key=True),
    Column("pack_id", LargeBinary, primary_key=True),
    Column("since", BigInteger, nullable=False),  # the version that brought it
    ForeignKeyConstraint(
        ["epoch_id", "pack_id"], ["packs.epoch_id", "packs.id"], name="fk_private_packs_pack"
    ),
)


@dataclass(frozen=True, slots=True)
class StoredPrivate:
    """A private drive as the server knows it."""

    id: str
    drive_id: DriveId
    owner: UserId
    verify_key: bytes
    number: int
    document: bytes
    epoch: EpochId
    version: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredHead:
    """One version, sealed and signed."""

    pointer: SignedPointer
    stored_at: datetime


@dataclass(frozen=True, slots=True)
class SealedChunkAt:
    """Where a chunk of some epoch of the drive lies."""

    chunk_id: bytes
    epoch: EpochId
    pack_id: str
    offset: int
    length: int
    plain_size: int


_PRIVATE = select(private_drives, drives.c.owner).join(
    drives, drives.c.id == private_drives.c.drive_id
)


class PrivateRepository:
    """Every statement about private drives."""

    async def find(self, tx: Tx, id_: str, *, lock: bool = False) -> StoredPrivate | None:
        statement = _PRIVATE.where(private_drives.c.id == id_)
        if lock:
            statement = statement.with_for_update(of=private_drives)
        row = (await tx.execute(statement)).one_or_none()
        return _private(row) if row else None

    async def of_owner(
        self, tx: Tx, owner: UserId, *, after: str | None, limit: int
    ) -> list[StoredPrivate]:
        """The oldest first."""
        statement = _PRIVATE.where(drives.c.owner == owner)
        if after is not None:
            statement = statement.where(private_drives.c.id > after)
        statement = statement.order_by(private_drives.c.id).limit(limit)
        return [_private(row) for row in await tx.execute(statement)]

    async def count(self, tx: Tx, drive: DriveId) -> int:
        statement = select(func.count()).where(private_drives.c.drive_id == drive)
        return int((await tx.execute(statement)).scalar_one())

    async def add(self, tx: Tx, values: dict[str, Any]) -> bool:
        """False when the id is taken. Its epoch must be there."""
        fresh = upsert(private_drives).values(values).on_conflict_do_nothing()
        return (await tx.execute(fresh.returning(private_drives.c.id))).first() is not None

    async def add_epoch(self, tx: Tx, drive: DriveId, epoch: EpochId, private_id: str) -> bool:
        """An epoch whose keys the server has not; False when the id is taken."""
        values = {
            "id": epoch,
            "drive_id": drive,
            "purpose": f"{PRIVATE_PURPOSE}{private_id}:{epoch}",
            "wrapped_keys": b"",
        }
        fresh = upsert(epochs).values(values).on_conflict_do_nothing().returning(epochs.c.id)
        return (await tx.execute(fresh)).first() is not None

    async def tie_epoch(self, tx: Tx, epoch: EpochId, private_id: str) -> None:
        await tx.execute(insert(private_epochs).values(epoch_id=epoch, private_id=private_id))

    async def put_keys(
        self, tx: Tx, id_: str, *, number: int, document: bytes, epoch: EpochId
    ) -> None:
        changed = update(private_drives).where(private_drives.c.id == id_)
        await tx.execute(changed.values(number=number, document=document, epoch_id=epoch))

    async def head(self, tx: Tx, id_: str, version: int) -> StoredHead | None:
        statement = select(private_versions).where(
            private_versions.c.private_id == id_, private_versions.c.version == version
        )
        row = (await tx.execute(statement)).one_or_none()
        return _head(row) if row else None

    async def heads(self, tx: Tx, id_: str, *, before: int | None, limit: int) -> list[StoredHead]:
        """The newest first."""
        statement = select(private_versions).where(private_versions.c.private_id == id_)
        if before is not None:
            statement = statement.where(private_versions.c.version < before)
        statement = statement.order_by(private_versions.c.version.desc()).limit(limit)
        return [_head(row) for row in await tx.execute(statement)]

    async def move_head(self, tx: Tx, id_: str, pointer: SignedPointer) -> None:
        """The drive's row must be locked."""
        values = {
            "private_id": id_,
            "version": pointer.version,
            "epoch_id": pointer.epoch,
            "sealed": pointer.sealed,
            "signature": pointer.signature,
        }
        await tx.execute(insert(private_versions).values(values))
        moved = update(private_drives).where(private_drives.c.id == id_)
        await tx.execute(moved.values(version=pointer.version))

    async def lock_packs(
        self, tx: Tx, id_: str, pack_ids: Sequence[bytes]
    ) -> list[tuple[EpochId, bytes]]:
        """Those of the packs that the drive's epochs have; none of them goes before the end."""
        found: list[tuple[EpochId, bytes]] = []
        for start in range(0, len(pack_ids), _BATCH):
            wanted = bindparam("ids", list(pack_ids[start : start + _BATCH]), ARRAY(LargeBinary))
            statement = (
                select(packs.c.epoch_id, packs.c.id)
                .join(private_epochs, private_epochs.c.epoch_id == packs.c.epoch_id)
                .where(private_epochs.c.private_id == id_, packs.c.id == any_(wanted))
                .with_for_update(of=packs, key_share=True, read=True)
            )
            rows = await tx.execute(statement)
            found += [(EpochId(row.epoch_id), bytes(row.id)) for row in rows]
        return found

    async def keep_packs(
        self, tx: Tx, id_: str, kept: Sequence[tuple[EpochId, bytes]], *, since: int
    ) -> None:
        statement = upsert(private_packs).on_conflict_do_nothing()
        for start in range(0, len(kept), _BATCH):
            rows = [
                {"private_id": id_, "epoch_id": epoch, "pack_id": pack, "since": since}
                for epoch, pack in kept[start : start + _BATCH]
            ]
            await tx.execute(statement, rows)

    async def let_go(self, tx: Tx, id_: str) -> None:
        """Keep no pack any more."""
        await tx.execute(delete(private_packs).where(private_packs.c.private_id == id_))

    async def forget_versions(self, tx: Tx, id_: str, *, before: int) -> int:
        gone = delete(private_versions).where(
            private_versions.c.private_id == id_, private_versions.c.version < before
        )
        return len(list(await tx.execute(gone.returning(private_versions.c.version))))

    async def end(self, tx: Tx, id_: str) -> None:
        """Nothing of the drive is kept but its epochs' packs, which belong to nobody then."""
        for table in (private_packs, private_versions, private_epochs):
            await tx.execute(delete(table).where(table.c.private_id == id_))
        await tx.execute(delete(private_drives).where(private_drives.c.id == id_))

    async def has_epoch(self, tx: Tx, id_: str, epoch: str) -> bool:
        statement = select(private_epochs.c.epoch_id).where(
            private_epochs.c.private_id == id_, private_epochs.c.epoch_id == epoch
        )
        return (await tx.execute(statement)).first() is not None

    async def locate(self, tx: Tx, id_: str, ids: Sequence[bytes]) -> list[SealedChunkAt]:
        """Where these chunks lie, those that are stored; the oldest epoch's when several have one."""
        found: list[SealedChunkAt] = []
        for start in range(0, len(ids), _BATCH):
            wanted = bindparam("ids", list(ids[start : start + _BATCH]), ARRAY(LargeBinary))
            statement = (
                select(chunks)
                .join(private_epochs, private_epochs.c.epoch_id == chunks.c.epoch_id)
                .where(private_epochs.c.private_id == id_, chunks.c.chunk_id == any_(wanted))
            )
            found += [_located(row) for row in await tx.execute(statement)]
        return found

    async def own_packs(self, tx: Tx, id_: str, pack_ids: Sequence[str]) -> set[str]:
        """Those of the packs that are the drive's."""
        ids = [bytes.fromhex(one) for one in pack_ids]
        statement = (
            select(packs.c.id)
            .join(private_epochs, private_epochs.c.epoch_id == packs.c.epoch_id)
            .where(
                private_epochs.c.private_id == id_,
                packs.c.id == any_(bindparam("ids", ids, ARRAY(LargeBinary))),
            )
        )
        return {bytes(row.id).hex() for row in await tx.execute(statement)}

    async def kept_packs(self, tx: Tx) -> set[tuple[EpochId, str]]:
        """What all private drives' versions need."""
        statement = select(private_packs.c.epoch_id, private_packs.c.pack_id)
        rows = await tx.execute(statement)
        return {(EpochId(row.epoch_id), bytes(row.pack_id).hex()) for row in rows}


def _private(row: Row[Any]) -> StoredPrivate:
    return StoredPrivate(
        id=row.id,
        drive_id=DriveId(row.drive_id),
        owner=UserId(row.owner),
        verify_key=bytes(row.verify_key),
        number=row.number,
        document=bytes(row.document),
        epoch=EpochId(row.epoch_id),
        version=row.version,
        created_at=row.created_at,
    )


def _head(row: Row[Any]) -> StoredHead:
    pointer = SignedPointer(
        row.private_id, row.version, row.epoch_id, bytes(row.sealed), bytes(row.signature)
    )
    return StoredHead(pointer, row.stored_at)


def _located(row: Row[Any]) -> SealedChunkAt:
    return SealedChunkAt(
        bytes(row.chunk_id),
        EpochId(row.epoch_id),
        bytes(row.pack_id).hex(),
        row.pack_offset,
        row.length,
        row.plain_size,
    )
