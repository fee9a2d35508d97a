"""The tables of compute: sites, their boots, nodes, devices."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sites",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("assignments_version", sa.BigInteger, nullable=False, server_default="1"),
        sa.Column(
            "last_seen", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
    )
    op.create_table(
        "site_boots",
        sa.Column("site_id", sa.Text, sa.ForeignKey("sites.id"), primary_key=True),
        sa.Column("boot_id", sa.Text, primary_key=True),
        sa.Column("high_water", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
    )
    op.create_table(
        "nodes",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("site_id", sa.Text, sa.ForeignKey("sites.id"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("cores", sa.Integer, nullable=False),
        sa.Column("memory_bytes", sa.BigInteger, nullable=False),
        sa.Column("online", sa.Boolean, nullable=False),
    )
    op.create_table(
        "devices",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("site_id", sa.Text, sa.ForeignKey("sites.id"), nullable=False),
        sa.Column("node_id", sa.Text, sa.ForeignKey("nodes.id"), nullable=False),
        sa.Column("index", sa.Integer, nullable=False),
        sa.Column("device_class", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("measured_micro_t", sa.BigInteger, nullable=False),
        sa.Column("rating_micro_t", sa.BigInteger, nullable=False),
        sa.Column("online", sa.Boolean, nullable=False),
        sa.Column("attempt_id", sa.Text),
    )
    op.create_index("ix_devices_attempt_id", "devices", ["attempt_id"])


def downgrade() -> None:
    for table in ("devices", "nodes", "site_boots", "sites"):
        op.drop_table(table)
