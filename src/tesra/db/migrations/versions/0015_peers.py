"""Storage peers, the trees of packs, and who holds which."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
NOW = sa.func.now()


def upgrade() -> None:
    op.create_table(
        "storage_peers",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("machine", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("port", sa.Integer, nullable=False),
        sa.Column("capacity_bytes", sa.BigInteger, nullable=False),
        sa.Column("gateway", sa.Boolean, nullable=False),
        sa.Column("draining", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("enrolled_at", TIME, nullable=False, server_default=NOW),
        sa.Column("last_seen", TIME, nullable=False, server_default=NOW),
    )
    op.create_table(
        "pack_trees",
        sa.Column("pack_id", sa.LargeBinary, primary_key=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("layer", sa.LargeBinary, nullable=False),
        sa.Column("made_at", TIME, nullable=False, server_default=NOW),
    )
    op.create_table(
        "pack_copies",
        sa.Column("pack_id", sa.LargeBinary, sa.ForeignKey("pack_trees.pack_id"), primary_key=True),
        sa.Column("peer_id", sa.Text, sa.ForeignKey("storage_peers.id"), primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("sources", ARRAY(sa.Text), nullable=False, server_default=sa.text("'{}'")),
        sa.Column("ready", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("since", TIME, nullable=False, server_default=NOW),
        sa.Column("proven_at", TIME),
        sa.Column("reason", sa.Text),
    )
    op.create_index("ix_pack_copies_peer", "pack_copies", ["peer_id", "state"])
    op.create_index(
        "ix_pack_copies_wanted",
        "pack_copies",
        ["pack_id"],
        postgresql_where=sa.text("state = 'wanted'"),
    )


def downgrade() -> None:
    for table in ("pack_copies", "pack_trees", "storage_peers"):
        op.drop_table(table)
