"""The tables of metrics.

``metric_runs`` has a row for each run that has metrics, which is locked while a delivery is
added; ``seq`` counts deliveries, so a viewer that has seen number n has seen all before it.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from tesra.db.engine import metadata

metric_runs = Table(
    "metric_runs",
    metadata,
    Column("run_id", Text, ForeignKey("runs.id"), primary_key=True),
    Column("seq", BigInteger, nullable=False, server_default="0"),
    Column("points", BigInteger, nullable=False, server_default="0"),
    Column("names", Integer, nullable=False, server_default="0"),
    Column("skipped", BigInteger, nullable=False, server_default="0"),
    Column("names_full", Boolean, nullable=False, server_default=text("false")),
    Column("points_full", Boolean, nullable=False, server_default=text("false")),
)

metric_heads = Table(
    "metric_heads",
    metadata,
    Column("attempt_id", Text, ForeignKey("attempts.id"), primary_key=True),
    Column("source", Integer, primary_key=True),
    Column("offset", BigInteger, nullable=False, server_default="0"),
)

# ``name`` and ``rank`` of an attempt from one origin; device samples have ``device`` and rank -1.
metric_series = Table(
    "metric_series",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("run_id", Text, ForeignKey("runs.id"), nullable=False),
    Column("device", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("origin", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),  # of the delivery that it grew with last
    Column("points", BigInteger, nullable=False),
    Column("nonfinite", BigInteger, nullable=False),
    Column("min_step", BigInteger, nullable=False),
    Column("max_step", BigInteger, nullable=False),
    Column("min_time", Double, nullable=False),
    Column("max_time", Double, nullable=False),
    Column("low", Double),
    Column("low_step", BigInteger),
    Column("low_time", Double),
    Column("high", Double),
    Column("high_step", BigInteger),
    Column("high_time", Double),
    Column("last", Double, nullable=False),
    Column("last_step", BigInteger, nullable=False),
    Column("last_time", Double, nullable=False),
    Column("tail", LargeBinary, nullable=False),  # its newest points, which fill no block yet
    UniqueConstraint("run_id", "device", "name", "rank", "attempt", "origin"),
)

metric_blocks = Table(
    "metric_blocks",
    metadata,
    Column("series_id", BigInteger, ForeignKey("metric_series.id"), primary_key=True),
    Column("start", BigInteger, primary_key=True),
    Column("points", Integer, nullable=False),
    Column("nonfinite", Integer, nullable=False),
    Column("min_step", BigInteger, nullable=False),
    Column("max_step", BigInteger, nullable=False),
    Column("min_time", Double, nullable=False),
    Column("max_time", Double, nullable=False),
    Column("low", Double),
    Column("low_step", BigInteger),
    Column("low_time", Double),
    Column("high", Double),
    Column("high_step", BigInteger),
    Column("high_time", Double),
    Column("data", LargeBinary, nullable=False),
)

# Parameters that the script itself has logged (MLflow).
metric_params = Table(
    "metric_params",
    metadata,
    Column("run_id", Text, ForeignKey("runs.id"), primary_key=True),
    Column("rank", Integer, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
