"""Tables of the changes of runs' parameters, and of what runs were found to have."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    Row,
    Table,
    Text,
    any_,
    bindparam,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from tesra.db.engine import Tx, metadata
from tesra.kit.ids import AttemptId, RunId

tuning_changes = Table(
    "tuning_changes",
    metadata,
    Column("run_id", Text, ForeignKey("runs.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("by", Text, ForeignKey("users.id"), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("values", JSONB, nullable=False),
    Column("before", JSONB, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),  # the one that makes it
    Column("at_start", Boolean, nullable=False),  # of that attempt, rather than while it runs
    Column("step", BigInteger),
    Column("ranks", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("reason", Text),
    Column("settled_at", DateTime(timezone=True)),
)

tuning_found = Table(
    "tuning_found",
    metadata,
    Column("run_id", Text, ForeignKey("runs.id"), primary_key=True),
    Column("attempt_id", Text, nullable=False),  # whose ranks said so
    Column("parameters", JSONB, nullable=False),
    Column("readers", JSONB, nullable=False),
    Column("stepping", JSONB, nullable=False),
)

ChangeRow = Row[Any]

_CHANGES = (
    select(tuning_changes)
    .where(tuning_changes.c.run_id == any_(bindparam("wanted", type_=ARRAY(Text))))
    .order_by(tuning_changes.c.run_id, tuning_changes.c.seq)
)


class TuningRepository:
    """Rows of tuning; used by its own service alone."""

    async def insert(self, tx: Tx, values: dict[str, Any]) -> None:
        await tx.execute(insert(tuning_changes).values(**values))

    async def changes(self, tx: Tx, run: RunId) -> list[ChangeRow]:
        """The timeline, the oldest first."""
        return (await self.changes_of(tx, [run])).get(run, [])

    async def changes_of(self, tx: Tx, runs: Iterable[RunId]) -> dict[RunId, list[ChangeRow]]:
        """The same of many runs; those without any are left out."""
        found: dict[RunId, list[ChangeRow]] = {}
        for row in await tx.execute(_CHANGES, {"wanted": list(runs)}):
            found.setdefault(RunId(row.run_id), []).append(row)
        return found

    async def update(self, tx: Tx, run: RunId, seqs: Iterable[int], values: dict[str, Any]) -> None:
        table = tuning_changes
        where = (table.c.run_id == run, table.c.seq.in_(list(seqs)))
        await tx.execute(update(table).where(*where).values(**values))

    async def found(self, tx: Tx, run: RunId) -> ChangeRow | None:
        """What the ranks have said last."""
        statement = select(tuning_found).where(tuning_found.c.run_id == run)
        return (await tx.execute(statement)).one_or_none()

    async def store_found(
        self, tx: Tx, run: RunId, attempt: AttemptId, values: dict[str, Any]
    ) -> None:
        statement = upsert(tuning_found).values(run_id=run, attempt_id=attempt, **values)
        statement = statement.on_conflict_do_update(
            index_elements=[tuning_found.c.run_id], set_={"attempt_id": attempt, **values}
        )
        await tx.execute(statement)
