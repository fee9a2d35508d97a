"""Priorities, caps, fair share, limits of unpaid use."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("priority", sa.Integer, nullable=False, server_default="0"))
    op.add_column("runs", sa.Column("max_cost_micros", sa.BigInteger))
    op.add_column("runs", sa.Column("max_time_ms", sa.BigInteger))
    for name in ("earlier_ms", "earlier_micros"):
        op.add_column("runs", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.create_index(
        "ix_runs_unbilled",
        "runs",
        ["owner"],
        postgresql_where=sa.text("bill_id IS NULL AND billed_micros > 0"),
    )
    for name in ("rating_micro_t", "cost_micros"):
        op.add_column(
            "attempts", sa.Column(name, sa.BigInteger, nullable=False, server_default="0")
        )
    op.execute(
        "UPDATE attempts SET rating_micro_t = (SELECT coalesce(sum((device->>'rating_micro_t')"
        "::bigint), 0) FROM jsonb_array_elements(devices) AS device)"
    )
    op.add_column("billing_accounts", sa.Column("exposure_limit_micros", sa.BigInteger))
    op.create_table(
        "use_shares",
        sa.Column("user_id", sa.Text, sa.ForeignKey("users.id"), primary_key=True),
        sa.Column("micro_th", sa.Double, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("use_shares")
    op.drop_column("billing_accounts", "exposure_limit_micros")
    op.drop_index("ix_runs_unbilled", "runs")
    for name in ("rating_micro_t", "cost_micros"):
        op.drop_column("attempts", name)
    for name in ("priority", "max_cost_micros", "max_time_ms", "earlier_ms", "earlier_micros"):
        op.drop_column("runs", name)
