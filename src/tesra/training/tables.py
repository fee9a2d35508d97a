"""The tables of runs, their attempts and their timelines; see the migrations 0006 and later."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy import Sequence as DbSequence
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from tesra.db.engine import metadata

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, ForeignKey("users.id"), nullable=False),
    Column("project_id", Text, nullable=False),
    Column("project_name", Text, nullable=False),
    Column("snapshot_id", Text, nullable=False),
    Column("spec", JSONB, nullable=False),  # the request as it was validated, without secrets
    Column("engine_spec", JSONB, nullable=False),
    Column("secrets", LargeBinary),  # sealed; forgotten when the run ends
    Column("devices", Integer, nullable=False),
    Column("device_class", Text),
    Column("launch", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("phase", Text),
    Column("reason", Text),
    Column("warnings", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("stop", Text),
    Column("attempt_id", Text),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("exit_code", Integer),
    Column("output_id", Text),
    Column("output_size_bytes", BigInteger),
    Column("bill_id", Text),
    Column("billed_micros", BigInteger),
    Column("billed_micro_th", BigInteger),
    Column("sweep_id", Text),
    Column("trial", Integer),  # its number in the sweep, from 1 on
    Column("bill_subject", Text),  # whose bill its use goes on, if not its own
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("started_at", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True)),
    Column("launch_reason", Text),
    Column("smoke", Boolean, nullable=False, server_default=text("false")),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("max_cost_micros", BigInteger),
    Column("max_time_ms", BigInteger),
    Column("earlier_ms", BigInteger, nullable=False, server_default="0"),  # paid for, before the
    Column("earlier_micros", BigInteger, nullable=False, server_default="0"),  # present attempt
    Column("max_restarts", Integer, nullable=False, server_default="3"),
    Column("restarts", Integer, nullable=False, server_default="0"),  # attempts that were lost
    Column("origin_checkpoint", Text),  # of another run: what this one began with
    Column("resume_checkpoint", Text),  # what the present attempt, or the next, goes on from
    Column("restart_checkpoint", Text),  # while a restart is asked for
    Column("restart_why", Text),
    Column("tags", ARRAY(Text), nullable=False, server_default=text("'{}'")),  # its user's own
    Column("note", Text, nullable=False, server_default=text("''")),
    Index("ix_runs_owner_id", "owner", "id"),
    Index("ix_runs_sweep_id", "sweep_id", "trial"),
    Index(
        "ix_runs_queued",
        "id",
        postgresql_where=text("state = 'queued'"),
    ),
    Index(
        "ix_runs_unbilled",  # trials that have ended, until their sweep's bill is made
        "owner",
        postgresql_where=text("bill_id IS NULL AND billed_micros > 0"),
    ),
    Index(
        "ix_runs_live_owner",
        "owner",
        postgresql_where=text("state IN ('placing', 'preparing', 'running')"),
    ),
)

attempt_fences = DbSequence("attempt_fences", metadata=metadata)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("run_id", Text, ForeignKey("runs.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("site_id", Text, ForeignKey("sites.id"), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("devices", JSONB, nullable=False),  # AssignedDevice, in rank order
    Column("lease_until", DateTime(timezone=True), nullable=False),
    Column("usage_ms", BigInteger, nullable=False, server_default="0"),
    Column("environment_lock", Text),  # what it ran with, as requirement lines
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("started_at", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True)),
    Column("rating_micro_t", BigInteger, nullable=False, server_default="0"),  # all devices'
    Column("cost_micros", BigInteger, nullable=False, server_default="0"),  # of usage_ms, at most
    Column("resume_checkpoint", Text),  # what it went on from
    Column("resumed", Boolean, nullable=False, server_default=text("false")),  # it has read that
    Column("outcome", Text),  # model.Outcome, or "restarted" at its user's wish
    Index("ix_attempts_run_id", "run_id"),
    Index("ix_attempts_live_site", "site_id", postgresql_where=text("ended_at IS NULL")),
)

run_events = Table(
    "run_events",
    metadata,
    Column("run_id", Text, ForeignKey("runs.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
)
