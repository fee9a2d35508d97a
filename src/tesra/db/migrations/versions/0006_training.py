"""The tables of training: runs, attempts, timelines, logs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.execute("CREATE SEQUENCE attempt_fences")
    op.create_table(
        "runs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("project_name", sa.Text, nullable=False),
        sa.Column("snapshot_id", sa.Text, nullable=False),
        sa.Column("spec", JSONB, nullable=False),
        sa.Column("engine_spec", JSONB, nullable=False),
        sa.Column("secrets", sa.LargeBinary),
        sa.Column("devices", sa.Integer, nullable=False),
        sa.Column("device_class", sa.Text),
        sa.Column("launch", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("phase", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("warnings", JSONB, nullable=False, server_default=sa.text("'[]'::jsonb")),
        sa.Column("stop", sa.Text),
        sa.Column("attempt_id", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("exit_code", sa.Integer),
        sa.Column("output_id", sa.Text),
        sa.Column("output_size_bytes", sa.BigInteger),
        sa.Column("bill_id", sa.Text),
        sa.Column("billed_micros", sa.BigInteger),
        sa.Column("billed_micro_th", sa.BigInteger),
        sa.Column("created_at", MOMENT, nullable=False, server_default=sa.func.now()),
        sa.Column("started_at", MOMENT),
        sa.Column("ended_at", MOMENT),
    )
    op.create_index("ix_runs_owner_id", "runs", ["owner", "id"])
    op.create_index("ix_runs_queued", "runs", ["id"], postgresql_where=sa.text("state = 'queued'"))
    op.create_index(
        "ix_runs_live_owner",
        "runs",
        ["owner"],
        postgresql_where=sa.text("state IN ('placing', 'preparing', 'running')"),
    )
    op.create_table(
        "attempts",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("site_id", sa.Text, sa.ForeignKey("sites.id"), nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("devices", JSONB, nullable=False),
        sa.Column("lease_until", MOMENT, nullable=False),
        sa.Column("usage_ms", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("created_at", MOMENT, nullable=False, server_default=sa.func.now()),
        sa.Column("started_at", MOMENT),
        sa.Column("ended_at", MOMENT),
    )
    op.create_index("ix_attempts_run_id", "attempts", ["run_id"])
    op.create_index(
        "ix_attempts_live_site",
        "attempts",
        ["site_id"],
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "run_events",
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("at", MOMENT, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.create_table(
        "run_logs",
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False, server_default="0"),
    )
    op.create_table(
        "log_heads",
        sa.Column("attempt_id", sa.Text, sa.ForeignKey("attempts.id"), primary_key=True),
        sa.Column("rank", sa.Integer, primary_key=True),
        sa.Column("offset", sa.BigInteger, nullable=False, server_default="0"),
    )
    op.create_table(
        "log_segments",
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    tables = ("log_segments", "log_heads", "run_logs", "run_events", "attempts", "runs")
    for table in tables:
        op.drop_table(table)
    op.execute("DROP SEQUENCE attempt_fences")
