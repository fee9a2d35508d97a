"""The database: one engine, one transaction per request or task, committed at the edge."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg.pq import TransactionStatus
from sqlalchemy import MetaData, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolResetState

REST_S = 1.0
PREPARED_MOST = (
    400  # statements that a connection keeps prepared: more than there are in the code's hot paths
)
Tx = AsyncConnection  # a connection inside an open transaction

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def sqlalchemy_url(url: str) -> str:
    """The same address with the psycopg 3 driver named; plain ``postgresql://`` is what people write."""
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg{separator}{rest}" if scheme in {"postgres", "postgresql"} else url


def libpq_url(url: str) -> str:
    """The same address for psycopg itself, which knows no driver names."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}{separator}{rest}"


class Database:
    """A pool of connections to PostgreSQL; reached by ``begin`` or ``alone``."""

    def __init__(self, url: str, *, pool_size: int = 24) -> None:
        self.url = url
        self._engine = create_async_engine(
            sqlalchemy_url(url),
            pool_size=pool_size,
            max_overflow=8,  # opened at a peak and closed again
            pool_use_lifo=True,  # few connections do most of the work: their statements are prepared
            pool_reset_on_return=None,  # done below
        )
        _roll_back_what_is_open(self._engine)
        _ping_after_rest(self._engine)
        _keep_prepared(self._engine)
        self._alone = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Tx]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        async with self._engine.begin() as tx:
            yield tx

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[Tx]:
        """For one statement: a transaction by itself, without the ways there for its begin and end."""
        async with self._alone.connect() as tx:
            yield tx

    async def close(self) -> None:
        await self._engine.dispose()


def _roll_back_what_is_open(engine: AsyncEngine) -> None:
    """What comes back from a commit, as nearly all does, needs no way to the driver to be told so."""

    @event.listens_for(engine.sync_engine, "reset")
    def back(connection: DBAPIConnection, _: ConnectionPoolEntry, state: PoolResetState) -> None:
        status = connection.driver_connection.info.transaction_status
        if state.asyncio_safe and status != TransactionStatus.IDLE:
            connection.rollback()


def _ping_after_rest(engine: AsyncEngine) -> None:
    """A connection that has rested is tried before it is used; one that breaks in use empties the pool."""
    dialect = engine.dialect

    @event.listens_for(engine.sync_engine, "checkin")
    def rests(_: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info["rests_since"] = time.monotonic()

    @event.listens_for(engine.sync_engine, "checkout")
    def tried(connection: DBAPIConnection, record: ConnectionPoolEntry, _: object) -> None:
        rested_s = time.monotonic() - record.info.get("rests_since", time.monotonic())
        if rested_s < REST_S:
            return
        try:
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error


def _keep_prepared(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def made(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        connection.driver_connection.prepared_max = PREPARED_MOST
