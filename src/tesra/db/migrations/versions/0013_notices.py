"""Who is told of what, and how."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "notice_channels",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("language", sa.Text, nullable=False),
        sa.Column("events", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("secret", sa.LargeBinary, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("confirmed_at", TIME),
        sa.Column("asked_at", TIME),
        sa.Column("wrong_codes", sa.Integer, nullable=False, server_default="0"),
        sa.Column("removed_at", TIME),
        sa.Column("told_at", TIME),
        sa.Column("problem", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_notice_channels"),
        sa.ForeignKeyConstraint(["owner"], ["users.id"], name="fk_notice_channels_owner_users"),
    )
    op.create_index("ix_notice_channels_owner", "notice_channels", ["owner"])


def downgrade() -> None:
    op.drop_table("notice_channels")
