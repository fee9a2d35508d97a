"""What has happened, kept for each user to be seen on pages, until it is old."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import (
    Column,
    DateTime,
    ForeignKey,
    Index,
    Table,
    Text,
    func,
    insert,
    select,
    update,
)
from sqlalchemy import delete as delete_from

from tesra.db.engine import Tx, metadata
from tesra.kit.ids import UserId, new_id
from tesra.notices.model import Happening
from tesra.wire.notices import Notice

KEPT = timedelta(days=90)
MOST_COUNTED = 100  # a bell that says "99+" needs no more

_TIME = DateTime(timezone=True)

notices = Table(
    "notices",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, ForeignKey("users.id"), nullable=False),
    Column("event", Text, nullable=False),
    Column("at", _TIME, nullable=False, server_default=func.now()),
    Column("run", Text),
    Column("sweep", Text),
    Column("project", Text),
    Column("reason", Text),
    Column("amount_cny", Text),
    Column("bill", Text),
    Column("read_at", _TIME),
)
Index("ix_notices_owner_id", notices.c.owner, notices.c.id)
Index("ix_notices_unread", notices.c.owner, postgresql_where=notices.c.read_at.is_(None))
Index("ix_notices_at", notices.c.at)

_SHOWN = [column for column in notices.c if column.name not in ("owner",)]


class Inbox:
    """Each user's notices, the newest first."""

    async def add(self, tx: Tx, owner: UserId, happenings: Sequence[Happening]) -> None:
        ids = sorted(new_id("note") for _ in happenings)  # those of one moment in their order
        rows = [
            {
                "id": id_,
                "owner": owner,
                "event": one.event.value,
                **{
                    name: getattr(one, name)
                    for name in ("run", "sweep", "project", "reason", "amount_cny", "bill")
                },
            }
            for id_, one in zip(ids, happenings, strict=True)
        ]
        if rows:
            await tx.execute(insert(notices), rows)

    async def page(
        self, tx: Tx, owner: UserId, *, before: str | None = None, limit: int = 50
    ) -> list[Notice]:
        """``before``: the last id of the page before."""
        found = select(*_SHOWN).where(notices.c.owner == owner)
        if before is not None:
            found = found.where(notices.c.id < before)
        rows = (await tx.execute(found.order_by(notices.c.id.desc()).limit(limit))).mappings()
        return [Notice.model_validate(dict(row)) for row in rows]

    async def unread(self, tx: Tx, owner: UserId) -> int:
        """How many were not seen, counted up to ``MOST_COUNTED``."""
        some = select(notices.c.id).where(notices.c.owner == owner, notices.c.read_at.is_(None))
        counted = select(func.count()).select_from(some.limit(MOST_COUNTED).subquery())
        return int(await tx.scalar(counted) or 0)

    async def mark_read(self, tx: Tx, owner: UserId, *, until: str | None = None) -> None:
        """All, or those up to one of them: what came later was not seen."""
        mine = [notices.c.owner == owner, notices.c.read_at.is_(None)]
        if until is not None:
            mine.append(notices.c.id <= until)
        await tx.execute(update(notices).where(*mine).values(read_at=func.now()))

    async def purge(self, tx: Tx, *, now: datetime) -> None:
        """Forgets what is older than ``KEPT``."""
        await tx.execute(delete_from(notices).where(notices.c.at < now - KEPT))
