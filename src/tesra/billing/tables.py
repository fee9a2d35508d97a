"""The tables of billing. Migration 0003 adds the triggers that keep them honest:

ledger, usage records, bill lines and prices refuse UPDATE, DELETE and TRUNCATE; the entries of a
posting sum to zero at commit; ``wallet_micros`` and ``remaining_micros`` follow the entries and
can't fall below zero.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from tesra.db.engine import metadata

_TIME = DateTime(timezone=True)
_ACCOUNT = "billing_accounts.user_id"

accounts = Table(
    "billing_accounts",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("wallet_micros", BigInteger, nullable=False, server_default=text("0")),
    Column("autopay", Boolean, nullable=False, server_default=text("false")),
    Column("opened_at", _TIME, nullable=False, server_default=func.now()),
    Column("exposure_limit_micros", BigInteger),  # null: the network's own
    CheckConstraint("wallet_micros >= 0", name="wallet_not_negative"),
)

prices = Table(
    "prices",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("price_micros_per_th", BigInteger, nullable=False),
    Column("effective_from", _TIME, nullable=False),
    Column("created_by", Text),
    Column("created_at", _TIME, nullable=False, server_default=func.now()),
    UniqueConstraint("effective_from"),
    CheckConstraint("price_micros_per_th >= 0", name="price_not_negative"),
)

usage_records = Table(
    "usage_records",
    metadata,
    Column("attempt_id", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("started_at", _TIME, nullable=False),
    Column("duration_ms", BigInteger, nullable=False),
    Column("devices", JSONB, nullable=False),  # sorted [[device_class, rating_micro_t], ...]
    Column("recorded_at", _TIME, nullable=False, server_default=func.now()),
    CheckConstraint("duration_ms >= 0", name="duration_not_negative"),
    Index("ix_usage_records_run", "run_id"),
)

bills = Table(
    "bills",
    metadata,
    Column("id", Text, primary_key=True),
    Column("run_id", Text, nullable=False, unique=True),
    Column("user_id", Text, ForeignKey(_ACCOUNT), nullable=False),
    Column("amount_micros", BigInteger, nullable=False),
    Column("micro_th", BigInteger, nullable=False),
    Column("note", Text),
    Column("created_at", _TIME, nullable=False, server_default=func.now()),
    Column("paid_at", _TIME),
    CheckConstraint("amount_micros >= 0 AND amount_micros % 10000 = 0", name="whole_fen"),
    CheckConstraint("amount_micros > 0 OR paid_at IS NOT NULL", name="zero_is_paid"),
    Index("ix_bills_user", "user_id", "id"),
    Index("ix_bills_unpaid", "user_id", postgresql_where=text("paid_at IS NULL")),
)


def _line_columns() -> list[Column[Any]]:
    return [
        Column("attempt_id", Text, nullable=False),
        Column("attempt", Integer, nullable=False),
        Column("first_seq", BigInteger, nullable=False),
        Column("last_seq", BigInteger, nullable=False),
        Column("started_at", _TIME, nullable=False),
        Column("ended_at", _TIME, nullable=False),
        Column("duration_ms", BigInteger, nullable=False),
        Column("devices", Integer, nullable=False),
        Column("device_class", Text, nullable=False),
        Column("rating_micro_t", BigInteger, nullable=False),
        Column("price_id", BigInteger, ForeignKey("prices.id"), nullable=False),
        Column("price_micros", BigInteger, nullable=False),
        Column("micro_th", BigInteger, nullable=False),
        Column("amount_micros", BigInteger, nullable=False),
        Column("run_id", Text),  # on a bill for several runs: this line's
        Column("trial", Integer),
        Column("until_ms", BigInteger),  # only the attempt's first so many ms were billed
    ]


bill_lines = Table(
    "bill_lines",
    metadata,
    Column("bill_id", Text, ForeignKey("bills.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    *_line_columns(),
)

lines_aside = Table(  # of runs that have ended, until the bill for all of them is made
    "bill_lines_aside",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("seq", BigInteger, Identity(always=True), primary_key=True),
    *_line_columns(),
)

vouchers = Table(
    "vouchers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("code_hash", LargeBinary, unique=True),  # null: granted without a code
    Column("origin", Text, nullable=False),
    Column("amount_micros", BigInteger, nullable=False),
    Column("remaining_micros", BigInteger, nullable=False, server_default=text("0")),
    Column("for_user", Text, ForeignKey(_ACCOUNT)),
    Column("issued_by", Text),
    Column("issued_at", _TIME, nullable=False, server_default=func.now()),
    Column("expires_at", _TIME, nullable=False),
    Column("redeemed_by", Text, ForeignKey(_ACCOUNT)),
    Column("redeemed_at", _TIME),
    CheckConstraint("amount_micros > 0", name="amount_positive"),
    CheckConstraint("remaining_micros BETWEEN 0 AND amount_micros", name="remaining_in_range"),
    Index("ix_vouchers_issued", "id", postgresql_where=text("origin = 'operator'")),
    Index("ix_vouchers_open", "redeemed_by", postgresql_where=text("remaining_micros > 0")),
    Index("ix_vouchers_expiring", "expires_at", postgresql_where=text("remaining_micros > 0")),
    Index(
        "uq_vouchers_welcome",
        "redeemed_by",
        unique=True,
        postgresql_where=text("origin = 'welcome'"),
    ),
)

postings = Table(
    "ledger_postings",
    metadata,
    Column("key", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("user_id", Text, ForeignKey(_ACCOUNT), nullable=False),
    Column("bill_id", Text, ForeignKey("bills.id")),
    Column("memo", Text, nullable=False),
    Column("at", _TIME, nullable=False, server_default=func.now()),
    Index("ix_ledger_postings_user", "user_id", "at"),
    Index("ix_ledger_postings_bill", "bill_id"),
    Index("ix_ledger_postings_topups", "at", "key", postgresql_where=text("kind = 'topup'")),
)

entries = Table(
    "ledger_entries",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("posting_key", Text, ForeignKey("ledger_postings.key"), nullable=False),
    Column("account", Text, nullable=False),
    Column("amount_micros", BigInteger, nullable=False),
    CheckConstraint("amount_micros <> 0", name="amount_not_zero"),
    Index("ix_ledger_entries_posting", "posting_key"),
)
