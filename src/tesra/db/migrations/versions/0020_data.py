"""Which nodes have which data of the drive."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "node_data",
        sa.Column("node_id", sa.Text, sa.ForeignKey("nodes.id"), primary_key=True),
        sa.Column("snapshot_id", sa.Text, primary_key=True),
        sa.Column(
            "used_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
    )
    op.create_index("ix_node_data_snapshot_id", "node_data", ["snapshot_id"])


def downgrade() -> None:
    op.drop_table("node_data")
