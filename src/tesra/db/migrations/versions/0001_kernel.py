"""The tables of the kernel: leases, idempotency keys, and the job queue's own schema.

The queue's schema is that of the installed procrastinate, whose version is kept as the comment
of its main table. A later version's changes become a revision of their own, made of the files in
``SchemaManager.get_migrations_path()`` that are newer than the version in that comment.
"""

from importlib.metadata import version

import sqlalchemy as sa
from alembic import op
from procrastinate.schema import SchemaManager

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

DROP_QUEUE = """
DO $$
DECLARE it record;
BEGIN
    DROP TABLE procrastinate_events, procrastinate_periodic_defers, procrastinate_jobs,
        procrastinate_workers CASCADE;
    FOR it IN SELECT oid::regprocedure AS name FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace AND proname LIKE 'procrastinate\\_%'
    LOOP
        EXECUTE 'DROP FUNCTION ' || it.name || ' CASCADE';
    END LOOP;
    FOR it IN SELECT oid::regtype AS name FROM pg_type
        WHERE typnamespace = current_schema()::regnamespace
        AND typname LIKE 'procrastinate\\_%' AND typcategory IN ('E', 'C')
    LOOP
        EXECUTE 'DROP TYPE ' || it.name || ' CASCADE';
    END LOOP;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.PrimaryKeyConstraint("user_id", "key", name="pk_idempotency_keys"),
    )
    # Straight to the driver: many statements at once, and '%' in them is no placeholder.
    _run_script(SchemaManager.get_schema())
    _run_script(
        f"COMMENT ON TABLE procrastinate_jobs IS 'procrastinate {version('procrastinate')}'"
    )


def downgrade() -> None:
    _run_script(DROP_QUEUE)
    op.drop_table("idempotency_keys")
    op.drop_table("leases")


def _run_script(script: str) -> None:
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    driver.execute(script)
