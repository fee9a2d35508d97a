"""Sweeps and their trials; bills for several runs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("runs", sa.Column("sweep_id", sa.Text))
    op.add_column("runs", sa.Column("trial", sa.Integer))
    op.add_column("runs", sa.Column("bill_subject", sa.Text))
    op.create_index("ix_runs_sweep_id", "runs", ["sweep_id", "trial"])
    op.add_column("bill_lines", sa.Column("run_id", sa.Text))
    op.add_column("bill_lines", sa.Column("trial", sa.Integer))
    _lines_aside()
    _sweeps()
    _trials()


def downgrade() -> None:
    op.drop_table("sweep_trials")
    op.drop_table("sweeps")
    op.drop_table("bill_lines_aside")
    op.drop_column("bill_lines", "trial")
    op.drop_column("bill_lines", "run_id")
    op.drop_index("ix_runs_sweep_id", "runs")
    for column in ("bill_subject", "trial", "sweep_id"):
        op.drop_column("runs", column)


def _lines_aside() -> None:
    op.create_table(
        "bill_lines_aside",
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("attempt_id", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("first_seq", sa.BigInteger, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=False),
        sa.Column("duration_ms", sa.BigInteger, nullable=False),
        sa.Column("devices", sa.Integer, nullable=False),
        sa.Column("device_class", sa.Text, nullable=False),
        sa.Column("rating_micro_t", sa.BigInteger, nullable=False),
        sa.Column("price_id", sa.BigInteger, nullable=False),
        sa.Column("price_micros", sa.BigInteger, nullable=False),
        sa.Column("micro_th", sa.BigInteger, nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("run_id", sa.Text),
        sa.Column("trial", sa.Integer),
        sa.Column("until_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("subject", "seq", name="pk_bill_lines_aside"),
        sa.ForeignKeyConstraint(
            ["price_id"], ["prices.id"], name="fk_bill_lines_aside_price_id_prices"
        ),
    )


def _sweeps() -> None:
    op.create_table(
        "sweeps",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("project_name", sa.Text, nullable=False),
        sa.Column("spec", JSONB, nullable=False),
        sa.Column("secrets", sa.LargeBinary),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("ending", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("wanted", sa.Integer, nullable=False),
        sa.Column("round", sa.Integer, nullable=False, server_default="1"),
        sa.Column("max_cost_micros", sa.BigInteger),
        sa.Column("bills", JSONB, nullable=False, server_default=sa.text("'[]'::jsonb")),
        sa.Column("billed_micros", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("billed_micro_th", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("ended_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_sweeps"),
        sa.ForeignKeyConstraint(["owner"], ["users.id"], name="fk_sweeps_owner_users"),
    )
    op.create_index("ix_sweeps_owner_id", "sweeps", ["owner", "id"])
    live = sa.text("state IN ('running', 'stopping')")
    op.create_index("ix_sweeps_live", "sweeps", ["id"], postgresql_where=live)


def _trials() -> None:
    op.create_table(
        "sweep_trials",
        sa.Column("sweep_id", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("params", JSONB, nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("step", sa.BigInteger),
        sa.Column("rungs", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
        sa.Column("pruned", sa.Text),
        sa.Column("reason", sa.Text),
        sa.PrimaryKeyConstraint("sweep_id", "number", name="pk_sweep_trials"),
        sa.ForeignKeyConstraint(
            ["sweep_id"], ["sweeps.id"], name="fk_sweep_trials_sweep_id_sweeps"
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_sweep_trials_run_id_runs"),
        sa.UniqueConstraint("run_id", name="uq_sweep_trials_run_id"),
    )
