"""Fixtures shared by all tests: a real PostgreSQL of this test process's own, migrated once.

With pytest-xdist every worker has its own cluster. All of it is gone when the session ends,
or, if that was killed, when the next one begins.
"""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from factories.clusters import Cluster, FreshDatabase
from factories.leftovers import clear_leftovers, owned_prefix
from tesra.db.embedded import EmbeddedPostgres
from tesra.db.engine import Database, Tx
from tesra.kit.settings import Home


@pytest.fixture(scope="session")
def embedded_postgres() -> Iterator[EmbeddedPostgres]:
    """A running PostgreSQL in a home of its own."""
    clear_leftovers()
    folder = Path(tempfile.mkdtemp(prefix=owned_prefix("test")))
    postgres = EmbeddedPostgres(Home(folder / "home"))
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def cluster(embedded_postgres: EmbeddedPostgres) -> Cluster:
    """The same, with the template migrated."""
    cluster = Cluster(embedded_postgres)
    cluster.create_template()
    return cluster


@pytest.fixture(scope="session")
def postgres_url(cluster: Cluster) -> str:
    """The URL of the session's shared, migrated database."""
    return cluster.create()


@pytest_asyncio.fixture(scope="session")
async def database(postgres_url: str) -> AsyncIterator[Database]:
    """The session's shared database: what a test commits here, the others see."""
    database = Database(postgres_url)
    yield database
    await database.close()


@pytest_asyncio.fixture
async def tx(database: Database) -> AsyncIterator[Tx]:
    """One transaction, rolled back when the test ends."""
    async with database.begin() as tx:
        yield tx
        await tx.rollback()


@pytest_asyncio.fixture
async def fresh_database(cluster: Cluster) -> AsyncIterator[FreshDatabase]:
    """Gives a new, empty, migrated database at each call; dropped when the test ends."""
    made: list[Database] = []

    async def make() -> Database:
        database = Database(cluster.create(), pool_size=4)
        made.append(database)
        return database

    yield make
    for database in made:
        await database.close()
        cluster.drop(database.url)
