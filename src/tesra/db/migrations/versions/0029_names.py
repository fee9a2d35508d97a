"""Names of drives in rows that can be searched."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "drive_names",
        sa.Column("drive_id", sa.Text, sa.ForeignKey("drives.id"), primary_key=True),
        sa.Column("path_hash", sa.LargeBinary, primary_key=True),
        sa.Column("sort_key", sa.Text(collation="C"), nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("normal", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("terms", sa.ARRAY(sa.BigInteger), nullable=False),
    )
    op.create_index("ix_drive_names_order", "drive_names", ["drive_id", "sort_key", "path_hash"])
    op.create_index("ix_drive_names_terms", "drive_names", ["terms"], postgresql_using="gin")
    op.create_table(
        "drive_name_heads",
        sa.Column("drive_id", sa.Text, sa.ForeignKey("drives.id"), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("drive_name_heads")
    op.drop_table("drive_names")
