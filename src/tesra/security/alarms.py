"""Alarms: what an operator has to look at. One stays open until its cause is gone or it is
acknowledged; the same cause again counts up instead of ringing twice."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    Row,
    Table,
    Text,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from tesra.db.engine import Tx, metadata
from tesra.kit.errors import NotFound
from tesra.kit.ids import new_id
from tesra.kit.saying import Said

_TIME = DateTime(timezone=True)

alarms = Table(
    "alarms",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("pack_id", LargeBinary, index=True),  # what it concerns, for the pack's owner
    Column("words", Text, nullable=False),
    Column("raised_at", _TIME, nullable=False, server_default=func.now()),
    Column("last_at", _TIME, nullable=False, server_default=func.now()),
    Column("times", Integer, nullable=False, server_default=text("1")),
    Column("cleared_at", _TIME),
    Column("acknowledged_at", _TIME),
    Column("acknowledged_by", Text),
    Index(
        "ix_alarms_open",
        "kind",
        "subject",
        unique=True,
        postgresql_where=text("cleared_at IS NULL AND acknowledged_at IS NULL"),
    ),
)
_OPEN = text("cleared_at IS NULL AND acknowledged_at IS NULL")


class Kind(StrEnum):
    """What can be wrong."""

    TAMPERED = "tampered copy"
    LOST = "lost copy"
    LOCKED = "no good copy left"
    STALLS = "holder stalls"
    OFFLINE = "peer offline"


class AlarmUnknown(NotFound):
    """There is no such alarm."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """``subject``: what it is about (a pack, a peer, or both); ``times`` it has been seen."""

    id: str
    kind: str
    subject: str
    words: str
    raised_at: datetime
    last_at: datetime
    times: int
    cleared_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None

    @property
    def state(self) -> str:
        if self.cleared_at is not None:
            return "over"
        return "open" if self.acknowledged_at is None else "acknowledged"


Ring = Callable[[Tx, Alarm], Awaitable[None]]  # told of each new alarm, in its transaction


class AlarmService:
    """One for a server process; ``rings`` are told of what is new."""

    def __init__(self, rings: Sequence[Ring] = ()) -> None:
        self._rings = rings

    async def sound(
        self, tx: Tx, kind: Kind, subject: str, words: Said, *, pack_id: str | None = None
    ) -> None:
        """Something is wrong; the same again before it is over counts up."""
        fresh = new_id("alm")
        statement = upsert(alarms).values(
            id=fresh,
            kind=kind.value,
            subject=subject,
            pack_id=bytes.fromhex(pack_id) if pack_id else None,
            words=words[:1000],
        )
        statement = statement.on_conflict_do_update(
            index_elements=["kind", "subject"],
            index_where=_OPEN,
            set_={
                "times": alarms.c.times + 1,
                "last_at": func.clock_timestamp(),
                "words": statement.excluded.words,
            },
        )
        row = (await tx.execute(statement.returning(alarms))).one()
        if row.id == fresh:
            for ring in self._rings:
                await ring(tx, _alarm(row))

    async def over(self, tx: Tx, kind: Kind, subjects: Sequence[str] | None = None) -> None:
        """The cause is gone: for these subjects, or for all of the kind."""
        statement = update(alarms).where(alarms.c.kind == kind.value, alarms.c.cleared_at.is_(None))
        if subjects is not None:
            statement = statement.where(alarms.c.subject.in_(subjects))
        await tx.execute(statement.values(cleared_at=func.clock_timestamp()))

    async def count_open(self, tx: Tx, kind: Kind, ending: str) -> int:
        """How many of the kind are open about subjects that end so."""
        ours = alarms.c.subject.endswith(ending, autoescape=True)
        statement = select(func.count()).where(_OPEN, alarms.c.kind == kind.value, ours)
        return int((await tx.execute(statement)).scalar_one())

    async def open_subjects(self, tx: Tx, kind: Kind) -> set[str]:
        """What there is an alarm of this kind about, acknowledged or not, that is not over."""
        statement = select(alarms.c.subject).where(
            alarms.c.kind == kind.value, alarms.c.cleared_at.is_(None)
        )
        return set((await tx.execute(statement)).scalars())

    async def listing(
        self,
        tx: Tx,
        *,
        before: str | None,
        limit: int,
        everything: bool = False,
        packs: Any = None,
    ) -> list[Alarm]:
        """The newest first; only those that nobody has seen to, unless ``everything``.

        ``packs``: a query of the ids of packs, to see no other alarms than those about them.
        """
        statement = select(alarms).order_by(alarms.c.id.desc()).limit(limit)
        if not everything:
            statement = statement.where(alarms.c.acknowledged_at.is_(None))
        if before is not None:
            statement = statement.where(alarms.c.id < before)
        if packs is not None:
            statement = statement.where(alarms.c.pack_id.in_(packs))
        return [_alarm(row) for row in await tx.execute(statement)]

    async def acknowledge(self, tx: Tx, alarm: str, *, by: str) -> Alarm:
        """Somebody has seen it; again changes nothing. Raises ``AlarmUnknown``."""
        this = alarms.c.id == alarm
        await tx.execute(
            update(alarms)
            .where(this, alarms.c.acknowledged_at.is_(None))
            .values(acknowledged_at=func.clock_timestamp(), acknowledged_by=by)
        )
        row = (await tx.execute(select(alarms).where(this))).one_or_none()
        if row is None:
            raise AlarmUnknown(way_out="`tesra alarms --all` lists them.")
        return _alarm(row)


def _alarm(row: Row[Any]) -> Alarm:
    return Alarm(
        id=row.id,
        kind=row.kind,
        subject=row.subject,
        words=row.words,
        raised_at=row.raised_at,
        last_at=row.last_at,
        times=row.times,
        cleared_at=row.cleared_at,
        acknowledged_at=row.acknowledged_at,
        acknowledged_by=row.acknowledged_by,
    )
