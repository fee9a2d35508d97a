"""Private drives: key documents, heads and packs that the server can't open."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0016"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "private_drives",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("drive_id", sa.Text, sa.ForeignKey("drives.id"), nullable=False),
        sa.Column("verify_key", sa.LargeBinary, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("epoch_id", sa.Text, sa.ForeignKey("epochs.id"), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
    )
    op.create_index("ix_private_drives_drive", "private_drives", ["drive_id", "id"])
    op.create_table(
        "private_epochs",
        sa.Column("epoch_id", sa.Text, sa.ForeignKey("epochs.id"), primary_key=True),
        sa.Column("private_id", sa.Text, sa.ForeignKey("private_drives.id"), nullable=False),
    )
    op.create_index("ix_private_epochs_drive", "private_epochs", ["private_id"])
    op.create_table(
        "private_versions",
        sa.Column("private_id", sa.Text, sa.ForeignKey("private_drives.id"), primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True),
        sa.Column("epoch_id", sa.Text, sa.ForeignKey("epochs.id"), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("stored_at", TIME, nullable=False, server_default=sa.func.clock_timestamp()),
    )
    op.create_table(
        "private_packs",
        sa.Column("private_id", sa.Text, sa.ForeignKey("private_drives.id"), primary_key=True),
        sa.Column("epoch_id", sa.Text, primary_key=True),
        sa.Column("pack_id", sa.LargeBinary, primary_key=True),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(
            ["epoch_id", "pack_id"], ["packs.epoch_id", "packs.id"], name="fk_private_packs_pack"
        ),
    )


def downgrade() -> None:
    for table in ("private_packs", "private_versions", "private_epochs", "private_drives"):
        op.drop_table(table)
