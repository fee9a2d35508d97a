"""Tables of sweeps and their trials; used by the services of this package alone."""

import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Row,
    Table,
    Text,
    bindparam,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from tesra.db.engine import Tx, metadata
from tesra.kit.ids import BillId, UserId
from tesra.training.sweeps.model import Goal, SweepId, Trial, TrialState
from tesra.training.tables import attempts, runs

sweeps = Table(
    "sweeps",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, ForeignKey("users.id"), nullable=False),
    Column("project_id", Text, nullable=False),
    Column("project_name", Text, nullable=False),
    Column("spec", JSONB, nullable=False),  # the request as it was validated, without secrets
    Column("secrets", LargeBinary),  # sealed; forgotten when the sweep ends
    Column("mode", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("ending", Text),  # the terminal state that a stopping sweep goes to
    Column("reason", Text),
    Column("wanted", Integer, nullable=False),  # trials in all
    Column("round", Integer, nullable=False, server_default="1"),  # grows when it is resumed
    Column("max_cost_micros", BigInteger),
    Column("bills", JSONB, nullable=False, server_default=text("'[]'::jsonb")),  # one a round
    Column("billed_micros", BigInteger, nullable=False, server_default="0"),
    Column("billed_micro_th", BigInteger, nullable=False, server_default="0"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("ended_at", DateTime(timezone=True)),
    Index("ix_sweeps_owner_id", "owner", "id"),
    Index("ix_sweeps_live", "id", postgresql_where=text("state IN ('running', 'stopping')")),
)

trials = Table(
    "sweep_trials",
    metadata,
    Column("sweep_id", Text, ForeignKey("sweeps.id"), primary_key=True),
    Column("number", Integer, primary_key=True),  # from 1 on, without holes
    Column("run_id", Text, ForeignKey("runs.id"), nullable=False, unique=True),
    Column("round", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("params", JSONB, nullable=False),  # of the space alone
    Column("value", Double),
    Column("step", BigInteger),
    Column("rungs", JSONB, nullable=False, server_default=text("'{}'::jsonb")),  # null: not finite
    Column("pruned", Text),  # why it was asked to end
    Column("reason", Text),
)

AnyRow = Row[Any]


def subject_of(row: AnyRow) -> str:
    """The name that the present round's bill is made under."""
    return str(row.id) if row.round == 1 else f"{row.id}.{row.round}"


def trial_of(row: AnyRow, goal: Goal) -> Trial:
    """The deciding part of a trial's row."""
    worst = goal.key(math.inf)
    rungs = {int(rung): worst if value is None else value for rung, value in row.rungs.items()}
    return Trial(
        number=row.number,
        state=TrialState(row.state),
        params=row.params,
        value=row.value,
        step=row.step,
        rungs=rungs,
        reason=row.reason,
    )


def storable(rungs: Mapping[int, float]) -> dict[str, float | None]:
    """Rungs as JSON, which has no infinity."""
    return {str(rung): value if math.isfinite(value) else None for rung, value in rungs.items()}


_WITH_RUNS = (
    select(
        trials,
        runs.c.state.label("run_state"),
        runs.c.reason.label("run_reason"),
        runs.c.billed_micros,
        runs.c.billed_micro_th,
        runs.c.output_id,
        runs.c.started_at,
        runs.c.ended_at,
        attempts.c.usage_ms,
        attempts.c.devices.label("rated_devices"),
    )
    .join(runs, runs.c.id == trials.c.run_id)
    .outerjoin(attempts, attempts.c.id == runs.c.attempt_id)
    .order_by(trials.c.sweep_id, trials.c.number)
)
_TRIALS = _WITH_RUNS.where(trials.c.sweep_id == bindparam("sweep"))
_UPDATE_TRIAL = update(trials).where(
    trials.c.sweep_id == bindparam("own_sweep"), trials.c.number == bindparam("own_number")
)


class SweepRepository:
    """Rows of sweeps."""

    async def insert(self, tx: Tx, values: dict[str, Any]) -> None:
        await tx.execute(insert(sweeps).values(**values))

    async def sweep(self, tx: Tx, sweep: SweepId, *, owner: UserId | None = None) -> AnyRow | None:
        statement = select(sweeps).where(sweeps.c.id == sweep)
        if owner is not None:
            statement = statement.where(sweeps.c.owner == owner)
        return (await tx.execute(statement)).one_or_none()

    async def lock(self, tx: Tx, sweep: SweepId, *, owner: UserId | None = None) -> AnyRow | None:
        """The sweep, locked until the commit. Lock it before an account and before runs."""
        statement = select(sweeps).where(sweeps.c.id == sweep).with_for_update()
        if owner is not None:
            statement = statement.where(sweeps.c.owner == owner)
        return (await tx.execute(statement)).one_or_none()

    async def sweeps_of(
        self, tx: Tx, owner: UserId, *, before: str | None, limit: int
    ) -> list[AnyRow]:
        """The owner's sweeps, the newest first."""
        statement = select(sweeps).where(sweeps.c.owner == owner)
        if before:
            statement = statement.where(sweeps.c.id < before)
        return list(await tx.execute(statement.order_by(sweeps.c.id.desc()).limit(limit)))

    async def live(self, tx: Tx) -> list[SweepId]:
        """Those that have something to be done or waited for, the oldest first."""
        statement = select(sweeps.c.id).where(text("state IN ('running', 'stopping')"))
        return [SweepId(found) for found in (await tx.execute(statement.order_by("id"))).scalars()]

    async def update(self, tx: Tx, sweep: SweepId, values: dict[str, Any]) -> None:
        await tx.execute(update(sweeps).where(sweeps.c.id == sweep).values(**values))

    async def insert_trials(self, tx: Tx, rows: list[dict[str, Any]]) -> None:
        await tx.execute(insert(trials), rows)

    async def update_trial(
        self, tx: Tx, sweep: SweepId, number: int, values: dict[str, Any]
    ) -> None:
        await tx.execute(_UPDATE_TRIAL, {"own_sweep": sweep, "own_number": number, **values})

    async def update_trials(
        self, tx: Tx, sweep: SweepId, changes: Mapping[int, dict[str, Any]]
    ) -> None:
        """``update_trial`` for several, with equal columns, in one go."""
        if changes:
            rows = [{"own_sweep": sweep, "own_number": n, **new} for n, new in changes.items()]
            await tx.execute(_UPDATE_TRIAL, rows)

    async def trials(self, tx: Tx, sweep: SweepId) -> list[AnyRow]:
        """All trials, the first first, with what their runs have come to."""
        return list(await tx.execute(_TRIALS, {"sweep": sweep}))

    async def trials_of(self, tx: Tx, ids: list[SweepId]) -> list[AnyRow]:
        """The trials of several sweeps."""
        return list(await tx.execute(_WITH_RUNS.where(trials.c.sweep_id.in_(ids))))

    async def set_bill(self, tx: Tx, subject: str, bill: BillId) -> None:
        """Name the bill in the runs that it is for."""
        own = runs.c.bill_subject == subject
        sweep = subject.partition(".")[0]
        await tx.execute(update(runs).where(runs.c.sweep_id == sweep, own).values(bill_id=bill))
