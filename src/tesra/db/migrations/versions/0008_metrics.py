"""Metrics of runs, and what devices were used for."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _summary() -> list[sa.Column[Any]]:
    return [
        sa.Column("min_step", sa.BigInteger, nullable=False),
        sa.Column("max_step", sa.BigInteger, nullable=False),
        sa.Column("min_time", sa.Double, nullable=False),
        sa.Column("max_time", sa.Double, nullable=False),
        sa.Column("low", sa.Double),
        sa.Column("low_step", sa.BigInteger),
        sa.Column("low_time", sa.Double),
        sa.Column("high", sa.Double),
        sa.Column("high_step", sa.BigInteger),
        sa.Column("high_time", sa.Double),
    ]


def upgrade() -> None:
    op.create_table(
        "metric_runs",
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("points", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("names", sa.Integer, nullable=False, server_default="0"),
        sa.Column("skipped", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("names_full", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("points_full", sa.Boolean, nullable=False, server_default=sa.text("false")),
    )
    op.create_table(
        "metric_heads",
        sa.Column("attempt_id", sa.Text, sa.ForeignKey("attempts.id"), primary_key=True),
        sa.Column("source", sa.Integer, primary_key=True),
        sa.Column("offset", sa.BigInteger, nullable=False, server_default="0"),
    )
    op.create_table(
        "metric_series",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("points", sa.BigInteger, nullable=False),
        sa.Column("nonfinite", sa.BigInteger, nullable=False),
        *_summary(),
        sa.Column("last", sa.Double, nullable=False),
        sa.Column("last_step", sa.BigInteger, nullable=False),
        sa.Column("last_time", sa.Double, nullable=False),
        sa.Column("tail", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("run_id", "device", "name", "rank", "attempt", "origin"),
    )
    op.create_table(
        "metric_blocks",
        sa.Column("series_id", sa.BigInteger, sa.ForeignKey("metric_series.id"), primary_key=True),
        sa.Column("start", sa.BigInteger, primary_key=True),
        sa.Column("points", sa.Integer, nullable=False),
        sa.Column("nonfinite", sa.Integer, nullable=False),
        *_summary(),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    # Packed doubles: to try to compress them costs time and gains little.
    op.execute("ALTER TABLE metric_blocks ALTER COLUMN data SET STORAGE EXTERNAL")
    op.execute("ALTER TABLE metric_series ALTER COLUMN tail SET STORAGE EXTERNAL")
    op.create_table(
        "metric_params",
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("rank", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )


def downgrade() -> None:
    for table in (
        "metric_params",
        "metric_blocks",
        "metric_series",
        "metric_heads",
        "metric_runs",
    ):
        op.drop_table(table)
