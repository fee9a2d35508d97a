"""What the doctor said of a snapshot, and why a run was launched as it was."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("launch_reason", sa.Text))
    no = sa.text("false")
    op.add_column("runs", sa.Column("smoke", sa.Boolean, nullable=False, server_default=no))
    op.create_table(
        "doctor_reports",
        sa.Column("snapshot_id", sa.Text, nullable=False),
        sa.Column("entry", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("report", JSONB, nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.PrimaryKeyConstraint("snapshot_id", "entry", name=op.f("pk_doctor_reports")),
        sa.ForeignKeyConstraint(
            ["snapshot_id"],
            ["snapshots.id"],
            name=op.f("fk_doctor_reports_snapshot_id_snapshots"),
            ondelete="CASCADE",
        ),
    )


def downgrade() -> None:
    op.drop_table("doctor_reports")
    op.drop_column("runs", "smoke")
    op.drop_column("runs", "launch_reason")
