"""Share links and their downloads; used by the share service alone (the collector reads roots)."""

from datetime import timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Row,
    Select,
    Table,
    Text,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from tesra.db.engine import Tx, metadata
from tesra.drive.repository import drives
from tesra.drive.shares.model import StoredShare
from tesra.kit.ids import DriveId, EpochId, UserId

_TIME = DateTime(timezone=True)

drive_shares = Table(
    "drive_shares",
    metadata,
    Column("id", Text, primary_key=True),
    Column("drive_id", Text, ForeignKey("drives.id"), nullable=False),
    Column("secret_hash", LargeBinary, nullable=False, unique=True),
    Column("path", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("epoch_id", Text, ForeignKey("epochs.id")),  # None: live
    Column("root", LargeBinary),
    Column("version", BigInteger),
    Column("password_hash", Text),
    Column("downloads", BigInteger, nullable=False, server_default="0"),
    Column("max_downloads", BigInteger),
    Column("guesses", Integer, nullable=False, server_default="0"),
    Column("guesses_from", _TIME),
    Column("created_at", _TIME, nullable=False, server_default=func.now()),
    Column("expires_at", _TIME),
    Column("revoked_at", _TIME),
    Column("last_download_at", _TIME),
    Index("ix_drive_shares_drive", "drive_id", "id"),
    Index("ix_drive_shares_epoch", "epoch_id"),
)

share_downloads = Table(
    "share_downloads",
    metadata,
    Column("share_id", Text, ForeignKey("drive_shares.id", ondelete="CASCADE"), primary_key=True),
    Column("address", LargeBinary, primary_key=True),
    Column("begun_at", _TIME, nullable=False),
)

_NOW = func.clock_timestamp()
_LIVING = drive_shares.c.revoked_at.is_(None) & or_(
    drive_shares.c.expires_at.is_(None), drive_shares.c.expires_at > _NOW
)
_SHARE = select(
    drive_shares,
    drives.c.owner,
    func.coalesce(drive_shares.c.expires_at <= _NOW, False).label("expired"),
).join(drives, drives.c.id == drive_shares.c.drive_id)


class ShareRepository:
    """Every statement about share links."""

    async def add(
        self, tx: Tx, share: str, values: dict[str, Any], expires_s: int | None
    ) -> StoredShare:
        expires_at = None if expires_s is None else func.now() + timedelta(seconds=expires_s)
        await tx.execute(insert(drive_shares).values(id=share, expires_at=expires_at, **values))
        return _share((await tx.execute(_SHARE.where(drive_shares.c.id == share))).one())

    async def count(self, tx: Tx, drive: DriveId) -> int:
        statement = select(func.count()).where(drive_shares.c.drive_id == drive)
        return (await tx.execute(statement)).scalar_one()

    async def by_secret(self, tx: Tx, hashed: bytes) -> StoredShare | None:
        found = await tx.execute(_SHARE.where(drive_shares.c.secret_hash == hashed))
        row = found.one_or_none()
        return _share(row) if row else None

    async def of_drive(
        self, tx: Tx, drive: DriveId, *, before: str | None, limit: int
    ) -> list[StoredShare]:
        """The newest first."""
        statement = _SHARE.where(drive_shares.c.drive_id == drive)
        if before is not None:
            statement = statement.where(drive_shares.c.id < before)
        statement = statement.order_by(drive_shares.c.id.desc()).limit(limit)
        return [_share(row) for row in await tx.execute(statement)]

    async def revoke(self, tx: Tx, drive: DriveId, share: str) -> bool:
        """False when there is none; one that was revoked before stays so."""
        statement = (
            update(drive_shares)
            .where(drive_shares.c.drive_id == drive, drive_shares.c.id == share)
            .values(revoked_at=func.coalesce(drive_shares.c.revoked_at, _NOW))
        )
        return (await tx.execute(statement.returning(drive_shares.c.id))).first() is not None

    async def take(self, tx: Tx, share: str) -> bool:
        """One download more, unless the link has ended: decided and counted in one statement."""
        left = or_(
            drive_shares.c.max_downloads.is_(None),
            drive_shares.c.downloads < drive_shares.c.max_downloads,
        )
        statement = (
            update(drive_shares)
            .where(drive_shares.c.id == share, _LIVING, left)
            .values(downloads=drive_shares.c.downloads + 1, last_download_at=_NOW)
        )
        return (await tx.execute(statement.returning(drive_shares.c.id))).first() is not None

    async def begun(self, tx: Tx, share: str, address: bytes) -> None:
        """From now on this address may go on with what it began."""
        statement = upsert(share_downloads).values(share_id=share, address=address, begun_at=_NOW)
        await tx.execute(
            statement.on_conflict_do_update(
                index_elements=["share_id", "address"], set_={"begun_at": _NOW}
            )
        )

    async def has_begun(self, tx: Tx, share: str, address: bytes, within: timedelta) -> bool:
        statement = select(share_downloads.c.share_id).where(
            share_downloads.c.share_id == share,
            share_downloads.c.address == address,
            share_downloads.c.begun_at > _NOW - within,
        )
        return (await tx.execute(statement)).first() is not None

    async def guess(self, tx: Tx, share: str, within: timedelta) -> int:
        """Count a password that is about to be tried; how many there were in this window."""
        fresh = func.coalesce(drive_shares.c.guesses_from < _NOW - within, True)
        statement = (
            update(drive_shares)
            .where(drive_shares.c.id == share)
            .values(
                guesses=case((fresh, 1), else_=drive_shares.c.guesses + 1),
                guesses_from=case((fresh, _NOW), else_=drive_shares.c.guesses_from),
            )
        )
        counted = await tx.execute(statement.returning(drive_shares.c.guesses))
        return int(counted.scalar_one())

    async def take_guess_back(self, tx: Tx, share: str) -> None:
        """It was right."""
        statement = update(drive_shares).where(drive_shares.c.id == share)
        await tx.execute(statement.values(guesses=func.greatest(drive_shares.c.guesses - 1, 0)))

    async def purge(self, tx: Tx, ended_for: timedelta) -> int:
        """Forget links that ended so long ago."""
        border = _NOW - ended_for
        statement = delete(drive_shares).where(
            or_(drive_shares.c.revoked_at <= border, drive_shares.c.expires_at <= border)
        )
        return len(list(await tx.execute(statement.returning(drive_shares.c.id))))


def living_roots(epoch: EpochId) -> Select[tuple[bytes]]:
    """A statement: the trees of an epoch that links still lead to."""
    return select(drive_shares.c.root).where(
        drive_shares.c.epoch_id == epoch, drive_shares.c.root.is_not(None), _LIVING
    )


def _share(row: Row[Any]) -> StoredShare:
    return StoredShare(
        id=row.id,
        owner=UserId(row.owner),
        path=row.path,
        kind=row.kind,
        epoch=EpochId(row.epoch_id) if row.epoch_id else None,
        root=bytes(row.root) if row.root is not None else None,
        version=row.version,
        password_hash=row.password_hash,
        downloads=row.downloads,
        max_downloads=row.max_downloads,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_download_at=row.last_download_at,
        expired=row.expired,
    )
