"""What has happened, for each user to see on pages; the first steps that somebody has taken."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "notices",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("run", sa.Text),
        sa.Column("sweep", sa.Text),
        sa.Column("project", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("amount_cny", sa.Text),
        sa.Column("bill", sa.Text),
        sa.Column("read_at", TIME),
    )
    op.create_index("ix_notices_owner_id", "notices", ["owner", "id"])
    op.create_index(
        "ix_notices_unread", "notices", ["owner"], postgresql_where=sa.text("read_at IS NULL")
    )
    op.create_index("ix_notices_at", "notices", ["at"])
    op.add_column(
        "users", sa.Column("steps", sa.ARRAY(sa.Text), nullable=False, server_default="{}")
    )


def downgrade() -> None:
    op.drop_column("users", "steps")
    op.drop_table("notices")
