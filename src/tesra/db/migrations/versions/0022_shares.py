"""Links that open a path of a drive without an account."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0020"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "drive_shares",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("drive_id", sa.Text, sa.ForeignKey("drives.id"), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("epoch_id", sa.Text, sa.ForeignKey("epochs.id")),
        sa.Column("root", sa.LargeBinary),
        sa.Column("version", sa.BigInteger),
        sa.Column("password_hash", sa.Text),
        sa.Column("downloads", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("max_downloads", sa.BigInteger),
        sa.Column("guesses", sa.Integer, nullable=False, server_default="0"),
        sa.Column("guesses_from", TIME),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("expires_at", TIME),
        sa.Column("revoked_at", TIME),
        sa.Column("last_download_at", TIME),
    )
    op.create_index("ix_drive_shares_drive", "drive_shares", ["drive_id", "id"])
    op.create_index("ix_drive_shares_epoch", "drive_shares", ["epoch_id"])
    op.create_table(
        "share_downloads",
        sa.Column(
            "share_id",
            sa.Text,
            sa.ForeignKey("drive_shares.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("address", sa.LargeBinary, primary_key=True),
        sa.Column("begun_at", TIME, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("share_downloads")
    op.drop_table("drive_shares")
