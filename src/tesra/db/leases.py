"""Leases: at most one live holder of a name, and a fencing token that never repeats or shrinks.

Times are the database's. A row outlives its lease, so that its token goes on growing.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Interval,
    Table,
    Text,
    and_,
    bindparam,
    func,
    select,
    update,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.elements import ColumnElement

from tesra.db.engine import Tx, metadata

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
)


async def claim(tx: Tx, name: str, holder: str, ttl_s: float) -> int | None:
    """The fencing token of a new lease, or None while somebody's lease (also one's own) is live."""
    end = _now() + _seconds(ttl_s)
    statement = insert(leases).values(name=name, holder=holder, token=1, expires_at=end)
    statement = statement.on_conflict_do_update(
        index_elements=[leases.c.name],
        set_={"holder": holder, "token": leases.c.token + 1, "expires_at": end},
        where=leases.c.expires_at <= _now(),
    )
    token: int | None = await tx.scalar(statement.returning(leases.c.token))
    return token


async def renew(tx: Tx, name: str, holder: str, token: int, ttl_s: float) -> bool:
    """Hold it for ``ttl_s`` from now; False if it has expired or is another's: stop working then."""
    statement = (
        update(leases)
        .where(_LIVE, leases.c.holder == holder)
        .values(expires_at=_now() + _seconds(ttl_s))
    )
    return (await tx.execute(statement, {"lease": name, "proof": token})).rowcount == 1


async def release(tx: Tx, name: str, holder: str, token: int) -> bool:
    """End it now, so that another may claim it at once; False if it was not held any more."""
    statement = update(leases).where(_LIVE, leases.c.holder == holder).values(expires_at=_now())
    return (await tx.execute(statement, {"lease": name, "proof": token})).rowcount == 1


async def holds(tx: Tx, name: str, token: int) -> bool:
    """Whether the lease is live; if so, nobody can claim it before this transaction ends."""
    return await tx.scalar(_HOLDS, {"lease": name, "proof": token}) is not None


def _now() -> ColumnElement[object]:
    return func.clock_timestamp(type_=DateTime(timezone=True))


def _seconds(value: float) -> ColumnElement[object]:
    return sql_cast(f"{value} seconds", Interval)


# Made once: it is asked in each round of every loop.
_LIVE = and_(
    leases.c.name == bindparam("lease"),
    leases.c.token == bindparam("proof"),
    leases.c.expires_at > _now(),
)
_HOLDS = select(leases.c.token).where(_LIVE).with_for_update(read=True)
