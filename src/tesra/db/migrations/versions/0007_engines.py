"""The lock of each attempt's environment, and what is warm on each node."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("environment_lock", sa.Text))
    empty = sa.text("'[]'::jsonb")
    op.add_column("nodes", sa.Column("engines", JSONB, nullable=False, server_default=empty))


def downgrade() -> None:
    op.drop_column("nodes", "engines")
    op.drop_column("attempts", "environment_lock")
