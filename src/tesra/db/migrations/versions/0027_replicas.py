"""How many copies a drive's owner wants; where peers stand, and who of them is shut out."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("drives", sa.Column("copies", sa.Integer, nullable=False, server_default="3"))
    op.add_column("storage_peers", sa.Column("site", sa.Text, nullable=False, server_default=""))
    op.add_column(
        "storage_peers", sa.Column("authority", sa.Text, nullable=False, server_default="")
    )
    op.add_column("storage_peers", sa.Column("revoked_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    for name in ("revoked_at", "authority", "site"):
        op.drop_column("storage_peers", name)
    op.drop_column("drives", "copies")
