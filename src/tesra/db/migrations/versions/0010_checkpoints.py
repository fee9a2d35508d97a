"""Checkpoints, and runs that go on from one."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
RUN_TEXTS = ("origin_checkpoint", "resume_checkpoint", "restart_checkpoint", "restart_why")
ATTEMPT_TEXTS = ("resume_checkpoint", "outcome")


def upgrade() -> None:
    op.add_column("runs", sa.Column("max_restarts", sa.Integer, nullable=False, server_default="3"))
    op.add_column("runs", sa.Column("restarts", sa.Integer, nullable=False, server_default="0"))
    for name in RUN_TEXTS:
        op.add_column("runs", sa.Column(name, sa.Text))
    for name in ATTEMPT_TEXTS:
        op.add_column("attempts", sa.Column(name, sa.Text))
    op.add_column("attempts", sa.Column("resumed", sa.Boolean, nullable=False, server_default="f"))
    op.add_column("bill_lines", sa.Column("until_ms", sa.BigInteger))
    # Until now an attempt that had ended, but was not its run's last, had been lost.
    op.execute(
        "UPDATE attempts SET outcome = 'lost' FROM runs WHERE runs.id = attempts.run_id "
        "AND attempts.ended_at IS NOT NULL AND attempts.id IS DISTINCT FROM runs.attempt_id"
    )
    op.execute("UPDATE runs SET restarts = greatest(0, attempts - 1)")
    op.create_table(
        "checkpoints",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("attempt_id", sa.Text, sa.ForeignKey("attempts.id"), nullable=False),
        sa.Column("attempt_seq", sa.Integer, nullable=False),
        sa.Column("snapshot_id", sa.Text, nullable=False),
        sa.Column("ran_ms", sa.BigInteger, nullable=False),
        sa.Column("finished_at", MOMENT, nullable=False),
        sa.Column("stored_at", MOMENT, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("files", sa.Integer, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("newest", sa.Text),
        sa.Column("step", sa.BigInteger),
        sa.Column("pinned", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("superseded_at", MOMENT),
        sa.UniqueConstraint("run_id", "number"),
        sa.UniqueConstraint("attempt_id", "attempt_seq"),
    )


def downgrade() -> None:
    op.drop_table("checkpoints")
    op.drop_column("bill_lines", "until_ms")
    for name in (*ATTEMPT_TEXTS, "resumed"):
        op.drop_column("attempts", name)
    for name in (*RUN_TEXTS, "restarts", "max_restarts"):
        op.drop_column("runs", name)
