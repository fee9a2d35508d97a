"""Channels in the database; used by ``notices.service`` alone."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    LargeBinary,
    Row,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    select,
    text,
    update,
)

from tesra.db.engine import Tx, metadata
from tesra.kit.ids import UserId

_TIME = DateTime(timezone=True)
_DAY = timedelta(days=1)

channels = Table(
    "notice_channels",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, ForeignKey("users.id"), nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("language", Text, nullable=False),
    Column("events", ARRAY(Text), nullable=False),
    Column("secret", LargeBinary, nullable=False),  # sealed: a webhook's key, a mail's code
    Column("created_at", _TIME, nullable=False, server_default=func.now()),
    Column("confirmed_at", _TIME),
    Column("asked_at", _TIME),  # when the code was made
    Column("wrong_codes", Integer, nullable=False, server_default=text("0")),
    Column("removed_at", _TIME),
    Column("told_at", _TIME),
    Column("problem", Text),  # why the last try failed
)
_there = channels.c.removed_at.is_(None)

_HEARD_BY = select(channels.c.id, channels.c.kind, channels.c.events).where(
    channels.c.owner == bindparam("owner"), _there, channels.c.confirmed_at.is_not(None)
)


class ChannelRepository:
    """Rows of channels; those removed stay a day, so that making and removing has a limit too."""

    async def lock_owner(self, tx: Tx, owner: UserId) -> None:
        """One change of a user's channels at a time."""
        key = func.hashtextextended(f"notices:{owner}", 0)
        await tx.execute(select(func.pg_advisory_xact_lock(key)))

    async def of(self, tx: Tx, owner: UserId) -> Sequence[Row[Any]]:
        found = select(channels).where(channels.c.owner == owner, _there).order_by(channels.c.id)
        return (await tx.execute(found)).all()

    async def heard_by(self, tx: Tx, owner: UserId) -> Sequence[Row[Any, Any, Any]]:
        """The channels that are told."""
        return (await tx.execute(_HEARD_BY, {"owner": owner})).all()

    async def one(self, tx: Tx, channel: str) -> Row[Any] | None:
        found = select(channels).where(channels.c.id == channel, _there)
        return (await tx.execute(found)).one_or_none()

    async def made_lately(self, tx: Tx, owner: UserId) -> int:
        """How many there are, with those removed in the last day; older ones are forgotten."""
        mine = channels.c.owner == owner
        await tx.execute(delete(channels).where(mine, channels.c.removed_at < func.now() - _DAY))
        return int(await tx.scalar(select(func.count()).where(mine)) or 0)

    async def pending(
        self, tx: Tx, owner: UserId, *, age: timedelta, tries: int
    ) -> Sequence[Row[Any]]:
        """Those whose code may still be given."""
        found = select(channels).where(
            channels.c.owner == owner,
            _there,
            channels.c.confirmed_at.is_(None),
            channels.c.asked_at > func.now() - age,
            channels.c.wrong_codes < tries,
        )
        return (await tx.execute(found)).all()

    async def asked_within(self, tx: Tx, channel: str, age: timedelta) -> bool:
        recent = channels.c.asked_at > func.now() - age
        found = select(channels.c.id).where(channels.c.id == channel, recent)
        return (await tx.execute(found)).one_or_none() is not None

    async def add(self, tx: Tx, values: dict[str, Any]) -> None:
        await tx.execute(insert(channels).values(values))

    async def change(self, tx: Tx, channel: str, **values: Any) -> None:
        await tx.execute(update(channels).where(channels.c.id == channel).values(values))
