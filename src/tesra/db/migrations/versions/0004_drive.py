"""The tables of drive."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def _stamp(name: str) -> sa.Column[datetime]:
    return sa.Column(name, TIME, nullable=False, server_default=sa.func.now())


def upgrade() -> None:
    op.create_table(
        "drives",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("used_bytes", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        _stamp("created_at"),
        sa.UniqueConstraint("owner", name="uq_drives_owner"),
    )
    op.create_table(
        "epochs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("drive_id", sa.Text, sa.ForeignKey("drives.id"), nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("wrapped_keys", sa.LargeBinary, nullable=False),
        _stamp("created_at"),
        sa.UniqueConstraint("drive_id", "purpose", name="uq_epochs_drive_id_purpose"),
    )
    op.create_table(
        "packs",
        sa.Column("epoch_id", sa.Text, sa.ForeignKey("epochs.id"), primary_key=True),
        sa.Column("id", sa.LargeBinary, primary_key=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("chunk_count", sa.Integer, nullable=False),
        _stamp("stored_at"),
    )
    op.create_index("ix_packs_id", "packs", ["id"])
    op.create_table(
        "chunks",
        sa.Column("epoch_id", sa.Text, primary_key=True),
        sa.Column("chunk_id", sa.LargeBinary, primary_key=True),
        sa.Column("pack_id", sa.LargeBinary, nullable=False),
        sa.Column("pack_offset", sa.BigInteger, nullable=False),
        sa.Column("length", sa.Integer, nullable=False),
        sa.Column("plain_size", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(
            ["epoch_id", "pack_id"], ["packs.epoch_id", "packs.id"], name="fk_chunks_pack"
        ),
    )
    op.create_index("ix_chunks_pack", "chunks", ["epoch_id", "pack_id"])
    op.create_table(
        "snapshots",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("drive_id", sa.Text, sa.ForeignKey("drives.id"), nullable=False),
        sa.Column("epoch_id", sa.Text, sa.ForeignKey("epochs.id"), nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("file_count", sa.BigInteger, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        _stamp("created_at"),
        sa.UniqueConstraint("epoch_id", "root", name="uq_snapshots_epoch_id_root"),
    )
    op.create_index("ix_snapshots_drive_id", "snapshots", ["drive_id"])
    op.create_table(
        "projects",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("head", sa.Text, sa.ForeignKey("snapshots.id"), nullable=False),
        sa.Column("snapshots", sa.Integer, nullable=False, server_default=sa.text("1")),
        _stamp("created_at"),
        _stamp("updated_at"),
        sa.UniqueConstraint("owner", "name", name="uq_projects_owner_name"),
    )
    op.create_table(
        "project_snapshots",
        sa.Column("project_id", sa.Text, sa.ForeignKey("projects.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("snapshot_id", sa.Text, sa.ForeignKey("snapshots.id"), nullable=False),
        _stamp("added_at"),
    )
    op.create_table(
        "imports",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default=sa.text("'waiting'")),
        sa.Column("project_id", sa.Text, sa.ForeignKey("projects.id")),
        sa.Column("error", sa.Text),
        _stamp("created_at"),
        _stamp("updated_at"),
    )
    op.create_index("ix_imports_owner", "imports", ["owner"])
    op.create_index(
        "ix_imports_open",
        "imports",
        ["updated_at"],
        postgresql_where=sa.text("state IN ('waiting', 'running')"),
    )


def downgrade() -> None:
    for table in (
        "imports",
        "project_snapshots",
        "projects",
        "snapshots",
        "chunks",
        "packs",
        "epochs",
        "drives",
    ):
        op.drop_table(table)
