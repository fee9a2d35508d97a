"""Drives in the database; used by the drive's own services alone."""

from collections.abc import Collection, Iterable, Sequence
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
    UniqueConstraint,
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
from tesra.drive.model import Drive, Epoch, Hold, StoredChunk, StoredProject, StoredSnapshot
from tesra.kit.ids import DriveId, EpochId, ProjectId, SnapshotId, UserId, new_id

_TIME = DateTime(timezone=True)
_BATCH = 5_000

drives = Table(
    "drives",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False, unique=True),
    Column("used_bytes", BigInteger, nullable=False, server_default=text("0")),
    Column("copies", Integer, nullable=False, server_default=text("3")),  # of each pack
    Column("created_at", _TIME, nullable=False, server_default=func.now()),
)

epochs = Table(
    "epochs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("drive_id", Text, ForeignKey("drives.id"), nullable=False),
    Column("purpose", Text, nullable=False),
    Column("wrapped_keys", LargeBinary, nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=func.now()),
    UniqueConstraint("drive_id", "purpose"),
)

packs = Table(
    "packs",
    metadata,
    Column("epoch_id", Text, ForeignKey("epochs.id"), primary_key=True),
    Column("id", LargeBinary, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("chunk_count", Integer, nullable=False),
    Column("stored_at", _TIME, nullable=False, server_default=func.now()),
    Index("ix_packs_id", "id"),
)

chunks = Table(
    "chunks",
    metadata,
    Column("epoch_id", Text, primary_key=True),
    Column("chunk_id", LargeBinary, primary_key=True),
    Column("pack_id", LargeBinary, nullable=False),
    Column("pack_offset", BigInteger, nullable=False),
    Column("length", Integer, nullable=False),
    Column("plain_size", Integer, nullable=False),
    ForeignKeyConstraint(
        ["epoch_id", "pack_id"], ["packs.epoch_id", "packs.id"], name="fk_chunks_pack"
    ),
    Index("ix_chunks_pack", "epoch_id", "pack_id"),
)

# what the collector of garbage deletes when its grace is over; who needs it takes the mark off
pack_marks = Table(
    "pack_marks",
    metadata,
    Column("epoch_id", Text, primary_key=True),
    Column("pack_id", LargeBinary, primary_key=True),
    Column("marked_at", _TIME, nullable=False, server_default=func.now()),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("id", Text, primary_key=True),
    Column("drive_id", Text, ForeignKey("drives.id"), nullable=False, index=True),
    Column("epoch_id", Text, ForeignKey("epochs.id"), nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("file_count", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=func.now()),
    UniqueConstraint("epoch_id", "root"),
)

projects = Table(
    "projects",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("head", Text, ForeignKey("snapshots.id"), nullable=False),
    Column("snapshots", Integer, nullable=False, server_default=text("1")),
    Column("created_at", _TIME, nullable=False, server_default=func.now()),
    Column("updated_at", _TIME, nullable=False, server_default=func.now()),
    UniqueConstraint("owner", "name"),
)

project_snapshots = Table(
    "project_snapshots",
    metadata,
    Column("project_id", Text, ForeignKey("projects.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("snapshot_id", Text, ForeignKey("snapshots.id"), nullable=False),
    Column("added_at", _TIME, nullable=False, server_default=func.now()),
)


imports = Table(
    "imports",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False, index=True),
    Column("url", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'waiting'")),
    Column("project_id", Text, ForeignKey("projects.id")),
    Column("error", Text),
    Column("created_at", _TIME, nullable=False, server_default=func.now()),
    Column("updated_at", _TIME, nullable=False, server_default=func.now()),
    Index(
        "ix_imports_open",
        "updated_at",
        postgresql_where=text("state IN ('waiting', 'running')"),
    ),
)


_EPOCH_OF = (
    select(epochs)
    .join(drives, drives.c.id == epochs.c.drive_id)
    .where(drives.c.owner == bindparam("owner"), epochs.c.purpose == bindparam("purpose"))
)


class DriveRepository:
    """Every statement of the drive; rows come out as the model's own classes."""

    async def drive(self, tx: Tx, owner: UserId) -> Drive:
        """The owner's drive; made when it is asked for first."""
        statement = select(drives).where(drives.c.owner == owner)
        row = (await tx.execute(statement)).one_or_none()
        if row is None:
            fresh = upsert(drives).values(id=new_id("drv"), owner=owner)
            await tx.execute(fresh.on_conflict_do_nothing())
            row = (await tx.execute(statement)).one()
        return Drive(DriveId(row.id), UserId(row.owner), row.used_bytes, row.copies)

    async def lock_drive(self, tx: Tx, drive: DriveId) -> Drive:
        """The drive, its row locked until the transaction ends."""
        row = (await tx.execute(select(drives).where(drives.c.id == drive).with_for_update())).one()
        return Drive(DriveId(row.id), UserId(row.owner), row.used_bytes, row.copies)

    async def set_copies(self, tx: Tx, drive: DriveId, copies: int) -> None:
        await tx.execute(update(drives).where(drives.c.id == drive).values(copies=copies))

    async def add_used(self, tx: Tx, drive: DriveId, more_bytes: int) -> None:
        await tx.execute(
            update(drives)
            .where(drives.c.id == drive)
            .values(used_bytes=drives.c.used_bytes + more_bytes)
        )

    async def epoch_for(self, tx: Tx, drive: DriveId, purpose: str) -> Epoch | None:
        found = select(epochs).where(epochs.c.drive_id == drive, epochs.c.purpose == purpose)
        row = (await tx.execute(found)).one_or_none()
        return _epoch(row) if row else None

    async def epoch_of(self, tx: Tx, owner: UserId, purpose: str) -> Epoch | None:
        """The same by whose drive it is."""
        row = (await tx.execute(_EPOCH_OF, {"owner": owner, "purpose": purpose})).one_or_none()
        return _epoch(row) if row else None

    async def epoch(self, tx: Tx, epoch: EpochId) -> tuple[Epoch, UserId] | None:
        """An epoch and whose it is."""
        joined = select(epochs, drives.c.owner).join(drives, drives.c.id == epochs.c.drive_id)
        row = (await tx.execute(joined.where(epochs.c.id == epoch))).one_or_none()
        return (_epoch(row), UserId(row.owner)) if row else None

    async def add_epoch(self, tx: Tx, epoch: Epoch) -> None:
        """Add it, unless another was first for the same purpose."""
        values = {
            "id": epoch.id,
            "drive_id": epoch.drive_id,
            "purpose": epoch.purpose,
            "wrapped_keys": epoch.wrapped_keys,
        }
        await tx.execute(upsert(epochs).values(values).on_conflict_do_nothing())

    async def chunks(
        self, tx: Tx, epoch: EpochId, ids: Sequence[bytes]
    ) -> dict[bytes, StoredChunk]:
        """Those of the chunks that are stored."""
        found: dict[bytes, StoredChunk] = {}
        for start in range(0, len(ids), _BATCH):
            wanted = bindparam("ids", list(ids[start : start + _BATCH]), ARRAY(LargeBinary))
            statement = select(chunks).where(
                chunks.c.epoch_id == epoch, chunks.c.chunk_id == any_(wanted)
            )
            for row in await tx.execute(statement):
                chunk_id = bytes(row.chunk_id)
                found[chunk_id] = StoredChunk(
                    chunk_id,
                    bytes(row.pack_id).hex(),
                    row.pack_offset,
                    row.length,
                    row.plain_size,
                )
        return found

    async def prefixes(self, tx: Tx, epoch: EpochId, size_bytes: int, *, limit: int) -> list[bytes]:
        """The beginnings of the ids of ``limit`` of the chunks that are stored."""
        beginning = func.substring(chunks.c.chunk_id, 1, size_bytes)
        statement = select(beginning).where(chunks.c.epoch_id == epoch).limit(limit)
        return [bytes(found) for found in (await tx.execute(statement)).scalars()]

    async def needed_chunks(
        self, tx: Tx, epoch: EpochId, ids: Sequence[bytes]
    ) -> dict[bytes, StoredChunk]:
        """``chunks``, for who is about to refer to them: they are no garbage any more.

        Marks go first: whoever sweeps holds them, so what is found after that stays.
        """
        await self.unmark(tx, epoch, ids)
        return await self.chunks(tx, epoch, ids)

    async def unmark(self, tx: Tx, epoch: EpochId, ids: Sequence[bytes]) -> None:
        """The packs that hold these chunks are no garbage."""
        if not await self.has_marks(tx, epoch):
            return
        for start in range(0, len(ids), _BATCH):
            wanted = bindparam("ids", list(ids[start : start + _BATCH]), ARRAY(LargeBinary))
            holding = select(chunks.c.pack_id).where(
                chunks.c.epoch_id == epoch, chunks.c.chunk_id == any_(wanted)
            )
            await tx.execute(
                delete(pack_marks).where(
                    pack_marks.c.epoch_id == epoch, pack_marks.c.pack_id.in_(holding)
                )
            )

    async def has_marks(self, tx: Tx, epoch: EpochId) -> bool:
        found = select(pack_marks.c.epoch_id).where(pack_marks.c.epoch_id == epoch).limit(1)
        return (await tx.execute(found)).first() is not None

    async def lock_pack(self, tx: Tx, pack_id: str) -> None:
        """Until the transaction ends nobody else indexes or sweeps this pack."""
        await tx.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(pack_id, 4))))

    async def forget_packs(self, tx: Tx, epoch: EpochId) -> int:
        """Drop the index of an epoch that no snapshot refers to; the bytes its packs counted."""
        referred = select(snapshots.c.id).where(snapshots.c.epoch_id == epoch).limit(1)
        if (await tx.execute(referred)).first() is not None:
            return 0
        await tx.execute(delete(chunks).where(chunks.c.epoch_id == epoch))
        gone = delete(packs).where(packs.c.epoch_id == epoch).returning(packs.c.size_bytes)
        return sum((await tx.execute(gone)).scalars())

    async def has_pack(self, tx: Tx, epoch: EpochId, pack_id: str) -> bool:
        statement = select(packs.c.id).where(
            packs.c.epoch_id == epoch, packs.c.id == bytes.fromhex(pack_id)
        )
        return (await tx.execute(statement)).first() is not None

    async def pack_is_indexed(self, tx: Tx, pack_id: str) -> bool:
        """Whether any epoch refers to the pack."""
        statement = select(packs.c.id).where(packs.c.id == bytes.fromhex(pack_id)).limit(1)
        return (await tx.execute(statement)).first() is not None

    async def pack_of_owner(self, tx: Tx, owner: UserId, pack_id: str) -> bool:
        """Whether the pack belongs to the owner's drive."""
        statement = (
            select(packs.c.id)
            .join(epochs, epochs.c.id == packs.c.epoch_id)
            .join(drives, drives.c.id == epochs.c.drive_id)
            .where(packs.c.id == bytes.fromhex(pack_id), drives.c.owner == owner)
        )
        return (await tx.execute(statement)).first() is not None

    async def pack_of_snapshots(
        self, tx: Tx, snapshot_ids: Iterable[SnapshotId], pack_id: str
    ) -> bool:
        """Whether the pack belongs to the epoch of one of the snapshots."""
        statement = (
            select(packs.c.id)
            .join(snapshots, snapshots.c.epoch_id == packs.c.epoch_id)
            .where(packs.c.id == bytes.fromhex(pack_id), snapshots.c.id.in_(list(snapshot_ids)))
        )
        return (await tx.execute(statement)).first() is not None

    async def add_pack(
        self,
        tx: Tx,
        epoch: EpochId,
        pack_id: str,
        *,
        size_bytes: int,
        stored: Sequence[StoredChunk],
        instead_of: Collection[str] = (),
    ) -> None:
        """Index a pack; chunks that are stored elsewhere already stay where they are, but for those
        that lie in one of the packs that it stands ``instead_of``."""
        pack = bytes.fromhex(pack_id)
        await tx.execute(
            insert(packs).values(
                epoch_id=epoch, id=pack, size_bytes=size_bytes, chunk_count=len(stored)
            )
        )
        given_up = chunks.c.pack_id.in_([bytes.fromhex(one) for one in instead_of])
        statement = upsert(chunks).on_conflict_do_nothing()
        for start in range(0, len(stored), _BATCH):
            rows = [
                {
                    "epoch_id": epoch,
                    "chunk_id": chunk.chunk_id,
                    "pack_id": pack,
                    "pack_offset": chunk.offset,
                    "length": chunk.length,
                    "plain_size": chunk.plain_size,
                }
                for chunk in stored[start : start + _BATCH]
            ]
            if instead_of:
                ids = bindparam("ids", [row["chunk_id"] for row in rows], ARRAY(LargeBinary))
                anew = chunks.c.chunk_id == any_(ids)
                await tx.execute(delete(chunks).where(chunks.c.epoch_id == epoch, given_up, anew))
            await tx.execute(statement, rows)

    async def snapshot(self, tx: Tx, snapshot: SnapshotId) -> tuple[StoredSnapshot, UserId] | None:
        """A snapshot and whose it is."""
        joined = select(snapshots, drives.c.owner).join(drives, drives.c.id == snapshots.c.drive_id)
        row = (await tx.execute(joined.where(snapshots.c.id == snapshot))).one_or_none()
        return (_snapshot(row), UserId(row.owner)) if row else None

    async def snapshot_of_root(self, tx: Tx, epoch: EpochId, root: bytes) -> StoredSnapshot | None:
        found = select(snapshots).where(snapshots.c.epoch_id == epoch, snapshots.c.root == root)
        row = (await tx.execute(found)).one_or_none()
        return _snapshot(row) if row else None

    async def add_snapshot(self, tx: Tx, values: dict[str, Any]) -> StoredSnapshot:
        """Add it, or give the one that has this root in this epoch already."""
        await tx.execute(upsert(snapshots).values(values).on_conflict_do_nothing())
        found = await self.snapshot_of_root(tx, values["epoch_id"], values["root"])
        assert found is not None  # either ours or the one that was first
        return found

    async def add_project(self, tx: Tx, owner: UserId, name: str, head: SnapshotId) -> bool:
        """Whether the name was free; the project is made then, with its first snapshot."""
        fresh = upsert(projects).values(id=new_id("prj"), owner=owner, name=name, head=head)
        row = (
            await tx.execute(fresh.on_conflict_do_nothing().returning(projects.c.id))
        ).one_or_none()
        if row is not None:
            await tx.execute(
                insert(project_snapshots).values(project_id=row.id, number=1, snapshot_id=head)
            )
        return row is not None

    async def move_head(self, tx: Tx, project: ProjectId, head: SnapshotId) -> None:
        """Add a snapshot to a project's line; the row must be locked."""
        number = (
            await tx.execute(
                update(projects)
                .where(projects.c.id == project)
                .values(head=head, snapshots=projects.c.snapshots + 1, updated_at=func.now())
                .returning(projects.c.snapshots)
            )
        ).scalar_one()
        await tx.execute(
            insert(project_snapshots).values(project_id=project, number=number, snapshot_id=head)
        )

    async def project(
        self, tx: Tx, owner: UserId, name_or_id: str, *, hold: Hold | None = None
    ) -> StoredProject | None:
        """``hold`` it until the transaction ends."""
        either = (projects.c.id == name_or_id) | (projects.c.name == name_or_id)
        statement = _PROJECTS.where(projects.c.owner == owner, either)
        if hold is not None:
            use = hold == "to use"
            statement = statement.with_for_update(of=projects, read=use, key_share=use)
        row = (await tx.execute(statement)).one_or_none()
        return _project(row) if row else None

    async def projects(
        self, tx: Tx, owner: UserId, *, after: str | None, limit: int
    ) -> list[StoredProject]:
        """The newest first; ``after`` is the last id of the page before."""
        statement = _PROJECTS.where(projects.c.owner == owner)
        if after is not None:
            statement = statement.where(projects.c.id < after)
        statement = statement.order_by(projects.c.id.desc()).limit(limit)
        return [_project(row) for row in await tx.execute(statement)]

    async def versions(
        self, tx: Tx, project: ProjectId, *, before: int | None, limit: int
    ) -> list[Row[Any]]:
        """The snapshots of a project, the newest first."""
        own = project_snapshots.c
        statement = (
            select(own.number, own.added_at, snapshots)
            .join(snapshots, snapshots.c.id == own.snapshot_id)
            .where(own.project_id == project)
            .order_by(own.number.desc())
            .limit(limit)
        )
        if before is not None:
            statement = statement.where(own.number < before)
        return list(await tx.execute(statement))


_PROJECTS = select(
    projects,
    *(column.label(f"head_{column.name}") for column in snapshots.c),
).join(snapshots, snapshots.c.id == projects.c.head)


def _epoch(row: Row[Any]) -> Epoch:
    return Epoch(EpochId(row.id), DriveId(row.drive_id), row.purpose, bytes(row.wrapped_keys))


def _snapshot(row: Row[Any], prefix: str = "") -> StoredSnapshot:
    def column(name: str) -> Any:
        return getattr(row, prefix + name)

    return StoredSnapshot(
        id=SnapshotId(column("id")),
        drive_id=DriveId(column("drive_id")),
        epoch_id=EpochId(column("epoch_id")),
        root=bytes(column("root")),
        file_count=column("file_count"),
        size_bytes=column("size_bytes"),
        kind=column("kind"),
        created_at=column("created_at"),
    )


def _project(row: Row[Any]) -> StoredProject:
    return StoredProject(
        id=ProjectId(row.id),
        owner=UserId(row.owner),
        name=row.name,
        head=_snapshot(row, "head_"),
        snapshots=row.snapshots,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
