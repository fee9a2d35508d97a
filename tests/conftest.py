"""Fixtures shared by all tests: a real PostgreSQL of this test process's own, migrated once.

With pytest-xdist every worker has its own cluster. All of it is gone when the session ends.
"""

import importlib
import importlib.util
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql
from sqlalchemy import MetaData

from tesra.db.embedded import APPLICATION, EmbeddedPostgres
from tesra.db.engine import Database, Tx, metadata
from tesra.db.migrate import migrate
from tesra.kit.settings import Home

TEMPLATE = "tesra_template"
MODULES_WITH_TABLES = (
    "tesra.db.leases",
    "tesra.db.idempotency",
    "tesra.identity.repository",
    "tesra.billing.repository",
    "tesra.drive.repository",
    "tesra.compute.repository",
    "tesra.training.repository",
)

FreshDatabase = Callable[[], Awaitable[Database]]


def all_metadata() -> MetaData:
    """Every domain's tables; a domain that is not there yet has none."""
    for name in MODULES_WITH_TABLES:
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)
    return metadata


class Cluster:
    """The session's PostgreSQL; databases are copies of one migrated template."""

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        self.postgres = postgres
        self._made = 0

    def create(self, *, template: str = TEMPLATE) -> str:
        """The URL (application role) of a new database."""
        self._made += 1
        name = f"test_{self._made}" if template == TEMPLATE else TEMPLATE
        self._execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(APPLICATION), sql.Identifier(template)
            )
        )
        return urlsplit(self.postgres.url())._replace(path=f"/{name}").geturl()

    def drop(self, url: str) -> None:
        """Drop it, whoever is still connected."""
        name = sql.Identifier(urlsplit(url).path[1:])
        self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.postgres.superuser_url(), autocommit=True) as connection:
            connection.execute(statement)


@pytest.fixture(scope="session")
def embedded_postgres() -> Iterator[EmbeddedPostgres]:
    """A running PostgreSQL in a home of its own."""
    folder = Path(tempfile.mkdtemp(prefix="tesra-test-"))
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
    migrate(cluster.create(template="template1"), all_metadata())
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
