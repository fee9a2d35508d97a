"""The mutable tree of a drive: its head, its history, its trash."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "drive_versions",
        sa.Column("drive_id", sa.Text, sa.ForeignKey("drives.id"), primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True),
        sa.Column("epoch_id", sa.Text, sa.ForeignKey("epochs.id"), nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("made_at", TIME, nullable=False, server_default=sa.func.clock_timestamp()),
    )
    op.create_table(
        "drive_heads",
        sa.Column("drive_id", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(
            ["drive_id", "version"],
            ["drive_versions.drive_id", "drive_versions.version"],
            name="fk_drive_heads_version",
        ),
    )
    op.create_table(
        "drive_trash",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("drive_id", sa.Text, sa.ForeignKey("drives.id"), nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("thrown_at", TIME, nullable=False, server_default=sa.func.now()),
    )
    op.create_index("ix_drive_trash_drive", "drive_trash", ["drive_id", "id"])


def downgrade() -> None:
    for table in ("drive_trash", "drive_heads", "drive_versions"):
        op.drop_table(table)
