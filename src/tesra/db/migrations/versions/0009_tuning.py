"""Parameters that change while a run goes on."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    empty = sa.text("'[]'::jsonb")
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "tuning_changes",
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("by", sa.Text, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("at", moment, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("values", JSONB, nullable=False),
        sa.Column("before", JSONB, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("at_start", sa.Boolean, nullable=False),
        sa.Column("step", sa.BigInteger),
        sa.Column("ranks", JSONB, nullable=False, server_default=empty),
        sa.Column("reason", sa.Text),
        sa.Column("settled_at", moment),
    )
    op.create_table(
        "tuning_found",
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("attempt_id", sa.Text, nullable=False),
        sa.Column("parameters", JSONB, nullable=False),
        sa.Column("readers", JSONB, nullable=False),
        sa.Column("stepping", JSONB, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("tuning_found")
    op.drop_table("tuning_changes")
