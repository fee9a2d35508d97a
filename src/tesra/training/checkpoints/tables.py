"""The table of stored checkpoints; see the migration 0010."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)

from tesra.db.engine import metadata

_TIME = DateTime(timezone=True)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("id", Text, primary_key=True),
    Column("run_id", Text, ForeignKey("runs.id"), nullable=False),
    Column("number", Integer, nullable=False),  # within the run
    Column("attempt_id", Text, ForeignKey("attempts.id"), nullable=False),
    Column("attempt_seq", Integer, nullable=False),  # its site's number for it
    Column("snapshot_id", Text, nullable=False),
    Column("ran_ms", BigInteger, nullable=False),  # of its attempt's usage
    Column("finished_at", _TIME, nullable=False),  # its newest file, by the node's clock
    Column("stored_at", _TIME, nullable=False, server_default=func.clock_timestamp()),
    Column("files", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("newest", Text),
    Column("step", BigInteger),
    Column("pinned", Boolean, nullable=False, server_default=text("false")),
    Column("superseded_at", _TIME),  # newer ones are kept in its place
    UniqueConstraint("run_id", "number"),
    UniqueConstraint("attempt_id", "attempt_seq"),
)
