"""The database: one engine, one transaction per request or task, committed at the edge."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

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
    """A pool of connections to PostgreSQL; ``begin`` is the only way to reach one."""

    def __init__(self, url: str, *, pool_size: int = 16) -> None:
        self.url = url
        self._engine = create_async_engine(
            sqlalchemy_url(url), pool_size=pool_size, max_overflow=16, pool_pre_ping=True
        )

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Tx]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        async with self._engine.begin() as tx:
            yield tx

    async def close(self) -> None:
        await self._engine.dispose()
