"""A PostgreSQL for tests: one cluster, and databases that are copies of one migrated template."""

import importlib
import importlib.util
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from sqlalchemy import MetaData

from tesra.db.embedded import APPLICATION, EmbeddedPostgres
from tesra.db.engine import Database, metadata
from tesra.db.migrate import migrate

TEMPLATE = "tesra_template"
MODULES_WITH_TABLES = (
    "tesra.db.job_board",
    "tesra.db.leases",
    "tesra.db.idempotency",
    "tesra.identity.repository",
    "tesra.identity.admissions",
    "tesra.identity.factor_repository",
    "tesra.billing.repository",
    "tesra.drive.repository",
    "tesra.drive.peers.repository",
    "tesra.security.alarms",
    "tesra.drive.collection_repository",
    "tesra.drive.files.repository",
    "tesra.drive.private.repository",
    "tesra.drive.search.repository",
    "tesra.drive.shares.repository",
    "tesra.drive.uploads.repository",
    "tesra.compute.repository",
    "tesra.compute.shares",
    "tesra.training.holdings",
    "tesra.notices.repository",
    "tesra.training.repository",
    "tesra.training.logs",
    "tesra.training.project_doctor",
    "tesra.training.metrics.tables",
    "tesra.training.sweeps.repository",
    "tesra.training.tuning.repository",
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

    def create(self) -> str:
        """The URL (application role) of a new, migrated database."""
        return self._create(self._next_name(), TEMPLATE)

    def create_empty(self) -> str:
        """The URL of a new database without any table."""
        return self._create(self._next_name(), "template0")

    def create_template(self) -> None:
        """What ``create`` copies."""
        migrate(self._create(TEMPLATE, "template0"), all_metadata())

    def drop(self, url: str) -> None:
        """Drop it, whoever is still connected."""
        name = sql.Identifier(urlsplit(url).path[1:])
        self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))

    def _next_name(self) -> str:
        self._made += 1
        return f"test_{self._made}"

    def _create(self, name: str, template: str) -> str:
        self._execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(APPLICATION), sql.Identifier(template)
            )
        )
        return urlsplit(self.postgres.url())._replace(path=f"/{name}").geturl()

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.postgres.superuser_url(), autocommit=True) as connection:
            connection.execute(statement)
