"""Audits of copies, how peers stand, alarms; what the collector of garbage has marked."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0021"
down_revision = "0018"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
NOW = sa.func.now()


def upgrade() -> None:
    op.add_column(
        "storage_peers", sa.Column("standing", sa.Text, nullable=False, server_default="good")
    )
    op.add_column(
        "storage_peers", sa.Column("proofs", sa.Integer, nullable=False, server_default="0")
    )
    op.add_column("pack_copies", sa.Column("tries", sa.Integer, nullable=False, server_default="0"))
    op.create_table(
        "pack_audits",
        sa.Column("pack_id", sa.LargeBinary, sa.ForeignKey("pack_trees.pack_id"), primary_key=True),
        sa.Column("peer_id", sa.Text, sa.ForeignKey("storage_peers.id"), primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("blocks", ARRAY(sa.Integer), nullable=False),
        sa.Column("asked_at", TIME, nullable=False, server_default=NOW),
        sa.Column("stalled", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.create_index("ix_pack_audits_peer", "pack_audits", ["peer_id"])
    op.create_table(
        "alarms",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("pack_id", sa.LargeBinary, index=True),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("raised_at", TIME, nullable=False, server_default=NOW),
        sa.Column("last_at", TIME, nullable=False, server_default=NOW),
        sa.Column("times", sa.Integer, nullable=False, server_default="1"),
        sa.Column("cleared_at", TIME),
        sa.Column("acknowledged_at", TIME),
        sa.Column("acknowledged_by", sa.Text),
    )
    op.create_index(
        "ix_alarms_open",
        "alarms",
        ["kind", "subject"],
        unique=True,
        postgresql_where=sa.text("cleared_at IS NULL AND acknowledged_at IS NULL"),
    )
    op.create_table(
        "pack_marks",
        sa.Column("epoch_id", sa.Text, primary_key=True),
        sa.Column("pack_id", sa.LargeBinary, primary_key=True),
        sa.Column("marked_at", TIME, nullable=False, server_default=NOW),
    )
    op.create_table(
        "drive_retention",
        sa.Column("drive_id", sa.Text, sa.ForeignKey("drives.id"), primary_key=True),
        sa.Column("keep_from", TIME, nullable=False),
        sa.Column("asked_at", TIME, nullable=False, server_default=NOW),
    )


def downgrade() -> None:
    for table in ("drive_retention", "pack_marks", "alarms", "pack_audits"):
        op.drop_table(table)
    op.drop_column("pack_copies", "tries")
    op.drop_column("storage_peers", "proofs")
    op.drop_column("storage_peers", "standing")
