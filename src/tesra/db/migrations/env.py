"""Run by Alembic, inside the transaction and with the tables that ``db.migrate`` hands over."""

from collections.abc import MutableMapping
from typing import Literal

from alembic import context

QUEUE_PREFIX = "procrastinate_"  # the job queue's tables are its own affair

Kind = Literal[
    "schema",
    "table",
    "column",
    "index",
    "unique_constraint",
    "foreign_key_constraint",
    "check_constraint",
]
Parents = MutableMapping[
    Literal["schema_name", "table_name", "schema_qualified_table_name"], str | None
]


def include_name(name: str | None, kind: Kind, parents: Parents) -> bool:
    """Leave the job queue's tables out of the comparison."""
    del parents
    return not (kind == "table" and name is not None and name.startswith(QUEUE_PREFIX))


def run() -> None:
    """Migrate (or compare) on the connection that was handed in."""
    attributes = context.config.attributes
    context.configure(
        connection=attributes["connection"],
        target_metadata=attributes["target_metadata"],
        include_name=include_name,
        compare_type=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
