"""The tables of billing, and the triggers that keep its books."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

FIRST_PRICE_MICROS = 500_000  # CNY 0.5 per T·H
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIME = sa.DateTime(timezone=True)

APPEND_ONLY = ("ledger_postings", "ledger_entries", "usage_records", "bill_lines", "prices")

FUNCTIONS = """
CREATE FUNCTION billing_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: correct by reversal', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;

CREATE FUNCTION billing_keep_balance() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF starts_with(NEW.account, 'wallet:') THEN
        UPDATE billing_accounts SET wallet_micros = wallet_micros + NEW.amount_micros
            WHERE user_id = substr(NEW.account, 8);
    ELSIF starts_with(NEW.account, 'voucher:') THEN
        UPDATE vouchers SET remaining_micros = remaining_micros + NEW.amount_micros
            WHERE id = substr(NEW.account, 9);
    ELSE
        RETURN NULL;
    END IF;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such account: %', NEW.account
            USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION billing_posting_balances() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    total numeric;
    number bigint;
BEGIN
    SELECT coalesce(sum(amount_micros), 0), count(*) INTO total, number
        FROM ledger_entries WHERE posting_key = NEW.key;
    IF total <> 0 OR number < 2 THEN
        RAISE EXCEPTION 'the % entries of % sum to %, not to zero', number, NEW.key, total
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION billing_entry_is_of_its_posting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT at FROM ledger_postings WHERE key = NEW.posting_key)
            IS DISTINCT FROM transaction_timestamp() THEN
        RAISE EXCEPTION '% is closed: entries come in its own transaction', NEW.posting_key
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
"""


def upgrade() -> None:
    _create_usage_and_prices()
    _create_accounts_and_bills()
    _create_ledger()
    _create_triggers()


def downgrade() -> None:
    for table in (
        "ledger_entries",
        "ledger_postings",
        "vouchers",
        "bill_lines",
        "bills",
        "usage_records",
        "prices",
        "billing_accounts",
    ):
        op.drop_table(table)
    for function in (
        "billing_append_only",
        "billing_keep_balance",
        "billing_posting_balances",
        "billing_entry_is_of_its_posting",
    ):
        op.execute(f"DROP FUNCTION {function}()")


def _create_usage_and_prices() -> None:
    prices = op.create_table(
        "prices",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("price_micros_per_th", sa.BigInteger, nullable=False),
        sa.Column("effective_from", TIME, nullable=False),
        sa.Column("created_by", sa.Text),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="pk_prices"),
        sa.UniqueConstraint("effective_from", name="uq_prices_effective_from"),
        sa.CheckConstraint("price_micros_per_th >= 0", name=op.f("ck_prices_price_not_negative")),
    )
    op.bulk_insert(prices, [{"price_micros_per_th": FIRST_PRICE_MICROS, "effective_from": EPOCH}])
    op.create_table(
        "usage_records",
        sa.Column("attempt_id", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("duration_ms", sa.BigInteger, nullable=False),
        sa.Column("devices", JSONB, nullable=False),
        sa.Column("recorded_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("attempt_id", "seq", name="pk_usage_records"),
        sa.CheckConstraint("duration_ms >= 0", name=op.f("ck_usage_records_duration_not_negative")),
    )
    op.create_index("ix_usage_records_run", "usage_records", ["run_id"])


def _create_accounts_and_bills() -> None:
    op.create_table(
        "billing_accounts",
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("wallet_micros", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("autopay", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("opened_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("user_id", name="pk_billing_accounts"),
        sa.CheckConstraint(
            "wallet_micros >= 0", name=op.f("ck_billing_accounts_wallet_not_negative")
        ),
    )
    op.create_table(
        "bills",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("micro_th", sa.BigInteger, nullable=False),
        sa.Column("note", sa.Text),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("paid_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_bills"),
        sa.UniqueConstraint("run_id", name="uq_bills_run_id"),
        _to_account("bills", "user_id"),
        sa.CheckConstraint(
            "amount_micros >= 0 AND amount_micros % 10000 = 0", name=op.f("ck_bills_whole_fen")
        ),
        sa.CheckConstraint(
            "amount_micros > 0 OR paid_at IS NOT NULL", name=op.f("ck_bills_zero_is_paid")
        ),
    )
    op.create_index("ix_bills_user", "bills", ["user_id", "id"])
    op.create_index(
        "ix_bills_unpaid", "bills", ["user_id"], postgresql_where=sa.text("paid_at IS NULL")
    )
    op.create_table(
        "bill_lines",
        sa.Column("bill_id", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("attempt_id", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("first_seq", sa.BigInteger, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=False),
        sa.Column("duration_ms", sa.BigInteger, nullable=False),
        sa.Column("devices", sa.Integer, nullable=False),
        sa.Column("device_class", sa.Text, nullable=False),
        sa.Column("rating_micro_t", sa.BigInteger, nullable=False),
        sa.Column("price_id", sa.BigInteger, nullable=False),
        sa.Column("price_micros", sa.BigInteger, nullable=False),
        sa.Column("micro_th", sa.BigInteger, nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("bill_id", "number", name="pk_bill_lines"),
        sa.ForeignKeyConstraint(["bill_id"], ["bills.id"], name="fk_bill_lines_bill_id_bills"),
        sa.ForeignKeyConstraint(["price_id"], ["prices.id"], name="fk_bill_lines_price_id_prices"),
    )


def _create_ledger() -> None:
    op.create_table(
        "vouchers",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("code_hash", sa.LargeBinary),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.Column("remaining_micros", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("for_user", sa.Text),
        sa.Column("issued_by", sa.Text),
        sa.Column("issued_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("redeemed_by", sa.Text),
        sa.Column("redeemed_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_vouchers"),
        sa.UniqueConstraint("code_hash", name="uq_vouchers_code_hash"),
        _to_account("vouchers", "for_user"),
        _to_account("vouchers", "redeemed_by"),
        sa.CheckConstraint("amount_micros > 0", name=op.f("ck_vouchers_amount_positive")),
        sa.CheckConstraint(
            "remaining_micros BETWEEN 0 AND amount_micros",
            name=op.f("ck_vouchers_remaining_in_range"),
        ),
    )
    left = sa.text("remaining_micros > 0")
    op.create_index("ix_vouchers_open", "vouchers", ["redeemed_by"], postgresql_where=left)
    op.create_index("ix_vouchers_expiring", "vouchers", ["expires_at"], postgresql_where=left)
    op.create_index(
        "uq_vouchers_welcome",
        "vouchers",
        ["redeemed_by"],
        unique=True,
        postgresql_where=sa.text("origin = 'welcome'"),
    )
    op.create_table(
        "ledger_postings",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("bill_id", sa.Text),
        sa.Column("memo", sa.Text, nullable=False),
        sa.Column("at", TIME, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("key", name="pk_ledger_postings"),
        _to_account("ledger_postings", "user_id"),
        sa.ForeignKeyConstraint(["bill_id"], ["bills.id"], name="fk_ledger_postings_bill_id_bills"),
    )
    op.create_index("ix_ledger_postings_user", "ledger_postings", ["user_id", "at"])
    op.create_index("ix_ledger_postings_bill", "ledger_postings", ["bill_id"])
    op.create_table(
        "ledger_entries",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("posting_key", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("amount_micros", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_entries"),
        sa.ForeignKeyConstraint(
            ["posting_key"],
            ["ledger_postings.key"],
            name="fk_ledger_entries_posting_key_ledger_postings",
        ),
        sa.CheckConstraint("amount_micros <> 0", name=op.f("ck_ledger_entries_amount_not_zero")),
    )
    op.create_index("ix_ledger_entries_posting", "ledger_entries", ["posting_key"])


def _create_triggers() -> None:
    op.execute(FUNCTIONS)
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION billing_append_only()"
        )
    op.execute(
        "CREATE TRIGGER ledger_entries_of_posting BEFORE INSERT ON ledger_entries "
        "FOR EACH ROW EXECUTE FUNCTION billing_entry_is_of_its_posting()"
    )
    op.execute(
        "CREATE TRIGGER ledger_entries_keep_balance AFTER INSERT ON ledger_entries "
        "FOR EACH ROW EXECUTE FUNCTION billing_keep_balance()"
    )
    op.execute(
        "CREATE CONSTRAINT TRIGGER ledger_postings_balance AFTER INSERT ON ledger_postings "
        "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION billing_posting_balances()"
    )


def _to_account(table: str, column: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column], ["billing_accounts.user_id"], name=f"fk_{table}_{column}_billing_accounts"
    )
