"""What each user has used lately: one row a user, decayed with a half-life.

Exponential decay composes, so the row needs no history: what is added later is added to what the
earlier is worth by then, and reading decays what is stored to now.
"""

from collections.abc import Collection, Mapping

from sqlalchemy import Column, DateTime, Double, ForeignKey, Table, Text, func, literal, select
from sqlalchemy.dialects.postgresql import insert as upsert

from tesra.compute.scheduling import HALF_LIFE_S, RecentUse, decayed
from tesra.db.engine import Tx, metadata
from tesra.kit.ids import UserId

use_shares = Table(
    "use_shares",
    metadata,
    Column("user_id", Text, ForeignKey("users.id"), primary_key=True),
    Column("micro_th", Double, nullable=False),  # worth at ``at``
    Column("at", DateTime(timezone=True), nullable=False),  # of the latest use
)

_MOST_HALF_LIVES = 100  # 1e-30 of what it was; PostgreSQL refuses to underflow
_age_s = func.extract("epoch", func.clock_timestamp() - use_shares.c.at)


class UseShares:
    """The use of each user that still counts."""

    async def add(self, tx: Tx, used_micro_th: Mapping[UserId, float]) -> None:
        """Use of just now; users in one order, so that two transactions never wait for each other."""
        used = [(user, use) for user, use in sorted(used_micro_th.items()) if use > 0]
        if not used:
            return
        now = func.clock_timestamp()
        rows = [{"user_id": user, "micro_th": use, "at": now} for user, use in used]
        statement = upsert(use_shares).values(rows)
        half_lives = func.least(
            func.greatest(_age_s / HALF_LIFE_S, 0), literal(_MOST_HALF_LIVES, literal_execute=True)
        )
        worth = use_shares.c.micro_th * func.power(0.5, half_lives)
        await tx.execute(
            statement.on_conflict_do_update(
                index_elements=["user_id"],
                set_={"micro_th": worth + statement.excluded.micro_th, "at": now},
            )
        )

    async def of(self, tx: Tx, users: Collection[UserId]) -> dict[UserId, RecentUse]:
        """The recent use of those among ``users`` who have used anything."""
        statement = select(use_shares.c.user_id, use_shares.c.micro_th, _age_s.label("age_s"))
        rows = await tx.execute(statement.where(use_shares.c.user_id.in_(users)))
        return {
            UserId(row.user_id): RecentUse(
                micro_th=decayed(row.micro_th, float(row.age_s)), idle_s=max(0.0, float(row.age_s))
            )
            for row in rows
        }
