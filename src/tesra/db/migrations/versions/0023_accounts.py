"""Second factors, sessions apart from API tokens, preferences, and a bound on registrations."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("users", sa.Column("locale", sa.Text))
    op.add_column("users", sa.Column("theme", sa.Text, nullable=False, server_default="auto"))
    op.add_column("tokens", sa.Column("kind", sa.Text, nullable=False, server_default="token"))
    op.execute("UPDATE tokens SET kind = 'session' WHERE name = 'session'")
    op.alter_column("tokens", "kind", server_default=None)
    op.add_column("tokens", sa.Column("user_agent", sa.Text))
    op.add_column("tokens", sa.Column("address", sa.Text))
    op.create_table(
        "registrations",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("at", TIME, nullable=False, server_default=sa.func.now()),
    )
    op.create_index("ix_registrations_address_at", "registrations", ["address", "at"])
    op.create_table(
        "second_factors",
        sa.Column("user_id", sa.Text, sa.ForeignKey("users.id"), primary_key=True),
        sa.Column("sealed_secret", sa.LargeBinary, nullable=False),
        sa.Column("begun_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("confirmed_at", TIME),
        sa.Column("last_step", sa.BigInteger),
    )
    op.create_table(
        "recovery_codes",
        sa.Column("user_id", sa.Text, sa.ForeignKey("users.id"), primary_key=True),
        sa.Column("code_hash", sa.LargeBinary, primary_key=True),
    )
    op.create_table(
        "account_events",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("user_id", sa.Text, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("actor_id", sa.Text, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("note", sa.Text),
        sa.Column("at", TIME, nullable=False, server_default=sa.func.now()),
    )
    op.create_index("ix_account_events_user_id_id", "account_events", ["user_id", "id"])


def downgrade() -> None:
    for table in ("account_events", "recovery_codes", "second_factors", "registrations"):
        op.drop_table(table)
    for column in ("address", "user_agent", "kind"):
        op.drop_column("tokens", column)
    for column in ("theme", "locale"):
        op.drop_column("users", column)
