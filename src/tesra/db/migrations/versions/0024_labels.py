"""Tags and a note on each run."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("tags", ARRAY(sa.Text), nullable=False, server_default="{}"))
    op.add_column("runs", sa.Column("note", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("runs", "note")
    op.drop_column("runs", "tags")
