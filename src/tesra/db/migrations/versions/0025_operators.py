"""What operators read: top-ups, issued vouchers, failed jobs and what was wrong with them."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_vouchers_issued", "vouchers", ["id"], postgresql_where=sa.text("origin = 'operator'")
    )
    op.create_index(
        "ix_ledger_postings_topups",
        "ledger_postings",
        ["at", "key"],
        postgresql_where=sa.text("kind = 'topup'"),
    )
    op.create_table(
        "job_failures",
        sa.Column("job_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("words", sa.Text, nullable=False),
    )
    op.execute(
        "CREATE INDEX ix_procrastinate_jobs_failed ON procrastinate_jobs (id) "
        "WHERE status = 'failed'"
    )


def downgrade() -> None:
    op.execute("DROP INDEX ix_procrastinate_jobs_failed")
    op.drop_table("job_failures")
    op.drop_index("ix_ledger_postings_topups", "ledger_postings")
    op.drop_index("ix_vouchers_issued", "vouchers")
