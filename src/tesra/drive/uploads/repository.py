"""Rows of uploads; used by the upload service alone."""

from datetime import timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Index,
    Row,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    update,
)

from tesra.db.engine import Tx, metadata
from tesra.drive.uploads.model import (
    KEPT,
    Refusal,
    StoredUpload,
    UploadState,
    Wish,
    parse_metadata,
    read_wish,
)
from tesra.kit.ids import UserId

_TIME = DateTime(timezone=True)
_NOW = func.clock_timestamp()

uploads = Table(
    "uploads",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("metadata", Text, nullable=False),  # as it was sent; the wish is read from it
    Column("length", BigInteger, nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=func.now()),
    Column("expires_at", _TIME, nullable=False),
    Column("version", BigInteger),  # of the drive, once it has landed
    Column("project_id", Text),
    Column("error_code", Text),
    Column("error", Text),
    Column("way_out", Text),
    Index("ix_uploads_owner", "owner", "id"),
    Index("ix_uploads_expires", "expires_at"),
)

_OPEN = uploads.c.state != UploadState.LANDED


class UploadRepository:
    """Every statement about uploads."""

    async def add(
        self, tx: Tx, upload: str, owner: UserId, *, metadata: str, length: int
    ) -> StoredUpload:
        await tx.execute(
            insert(uploads).values(
                id=upload,
                owner=owner,
                state=UploadState.RECEIVING,
                metadata=metadata,
                length=length,
                expires_at=_NOW + KEPT,
            )
        )
        found = await self.find(tx, upload)
        assert found is not None
        return found

    async def find(self, tx: Tx, upload: str) -> StoredUpload | None:
        row = (await tx.execute(select(uploads).where(uploads.c.id == upload))).one_or_none()
        return _upload(row) if row else None

    async def of_owner(
        self, tx: Tx, owner: UserId, *, before: str | None, limit: int
    ) -> list[StoredUpload]:
        """The newest first, those that have landed lately among them."""
        statement = select(uploads).where(uploads.c.owner == owner, uploads.c.expires_at > _NOW)
        if before is not None:
            statement = statement.where(uploads.c.id < before)
        statement = statement.order_by(uploads.c.id.desc()).limit(limit)
        return [_upload(row) for row in await tx.execute(statement)]

    async def open_of(self, tx: Tx, owner: UserId) -> tuple[int, int]:
        """How many uploads of the owner have not landed, and the bytes that they were said to have."""
        statement = select(func.count(), func.coalesce(func.sum(uploads.c.length), 0)).where(
            uploads.c.owner == owner, _OPEN
        )
        count, size = (await tx.execute(statement)).one()
        return int(count), int(size)

    async def touch(self, tx: Tx, upload: str) -> None:
        """Something came: it is kept from now on for as long as a fresh one."""
        await self._set(tx, upload, expires_at=_NOW + KEPT)

    async def landing(self, tx: Tx, upload: str) -> None:
        await self._set(
            tx,
            upload,
            state=UploadState.LANDING,
            expires_at=_NOW + KEPT,
            error_code=None,
            error=None,
            way_out=None,
        )

    async def landed(
        self, tx: Tx, upload: str, *, version: int | None, project_id: str | None
    ) -> None:
        await self._set(
            tx, upload, state=UploadState.LANDED, version=version, project_id=project_id
        )

    async def refused(self, tx: Tx, upload: str, refusal: Refusal) -> None:
        await self._set(
            tx,
            upload,
            state=UploadState.REFUSED,
            error_code=refusal.code,
            error=refusal.detail,
            way_out=refusal.way_out,
        )

    async def remove(self, tx: Tx, upload: str) -> None:
        await tx.execute(delete(uploads).where(uploads.c.id == upload))

    async def to_land(self, tx: Tx, waited: timedelta) -> list[str]:
        """Those that are on their way into the drive for so long that their server may have died."""
        statement = select(uploads.c.id).where(
            uploads.c.state == UploadState.LANDING, uploads.c.expires_at < _NOW + KEPT - waited
        )
        return list((await tx.execute(statement.order_by(uploads.c.id))).scalars())

    async def states(self, tx: Tx, ids: list[str]) -> dict[str, UploadState]:
        """Those of the uploads that there are."""
        statement = select(uploads.c.id, uploads.c.state).where(uploads.c.id.in_(ids))
        return {row.id: UploadState(row.state) for row in await tx.execute(statement)}

    async def expired(self, tx: Tx) -> list[str]:
        statement = select(uploads.c.id).where(
            uploads.c.expires_at < _NOW, uploads.c.state != UploadState.LANDING
        )
        return list((await tx.execute(statement)).scalars())

    async def _set(self, tx: Tx, upload: str, **values: Any) -> None:
        await tx.execute(update(uploads).where(uploads.c.id == upload).values(**values))


def _upload(row: Row[Any]) -> StoredUpload:
    refusal = None
    if row.error_code is not None:
        refusal = Refusal(row.error_code, row.error, row.way_out)
    return StoredUpload(
        id=row.id,
        owner=UserId(row.owner),
        state=UploadState(row.state),
        wish=_wish(row.metadata),
        metadata=row.metadata,
        length=row.length,
        created_at=row.created_at,
        expires_at=row.expires_at,
        version=row.version,
        project_id=row.project_id,
        refusal=refusal,
    )


def _wish(metadata: str) -> Wish:
    return read_wish(parse_metadata(metadata))
