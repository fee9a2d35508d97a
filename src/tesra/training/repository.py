"""Runs, their attempts and their timelines, as rows."""

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import (
    ARRAY,
    BindParameter,
    Column,
    Double,
    Row,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.sql.elements import ClauseElement, ColumnElement

from tesra.db.engine import Tx
from tesra.kit.ids import AttemptId, RunId, SiteId, UserId
from tesra.kit.saying import Said
from tesra.training.checkpoints.tables import checkpoints
from tesra.training.labels import labelled
from tesra.training.model import Restart, RunFilter, RunLife, RunState, StopCause
from tesra.training.tables import attempts, run_events, runs
from tesra.training.tuning.repository import tuning_changes

NEARLY_WHOLE = 0.95  # of a lease: more than the nine tenths that a site counts on
RunRow = Row[Any]
_age_ms = func.extract("epoch", func.clock_timestamp() - attempts.c.created_at) * 1000


_LIFE: tuple[Column[Any], ...] = (
    runs.c.id,
    runs.c.owner,
    runs.c.project_name,
    runs.c.state,
    runs.c.attempt_id,
    runs.c.attempts,
    runs.c.stop,
    runs.c.phase,
    runs.c.reason,
    runs.c.exit_code,
    runs.c.started_at,
    runs.c.warnings,
    runs.c.smoke,
    runs.c.sweep_id,
    runs.c.trial,
    runs.c.bill_subject,
    runs.c.max_cost_micros,
    runs.c.max_restarts,
    runs.c.restarts,
    runs.c.origin_checkpoint,
    runs.c.resume_checkpoint,
    runs.c.restart_checkpoint,
    runs.c.restart_why,
)


_SHOWN = select(
    runs, checkpoints.c.run_id.label("origin_run"), checkpoints.c.number.label("origin_number")
).outerjoin(checkpoints, checkpoints.c.id == runs.c.origin_checkpoint)


def _after(seconds: float | BindParameter[float]) -> ColumnElement[Any]:
    """So long from now, by the database's clock."""
    return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def life_of(row: RunRow) -> RunLife:
    """The deciding part of a run's row."""
    return RunLife(
        state=RunState(row.state),
        attempt=AttemptId(row.attempt_id) if row.attempt_id else None,
        attempts=row.attempts,
        stop=StopCause(row.stop) if row.stop else None,
        phase=row.phase,
        reason=row.reason,
        exit_code=row.exit_code,
        max_restarts=row.max_restarts,
        restarts=row.restarts,
        resume=row.resume_checkpoint,
        origin=row.origin_checkpoint,
        restart=Restart(row.restart_checkpoint, row.restart_why) if row.restart_why else None,
    )


_ATTEMPT = [column for column in attempts.c if column.name != "environment_lock"]  # which is long

_TUNED = exists().where(tuning_changes.c.run_id == runs.c.id).label("tuned")

# Made once: to make a statement of many columns costs more than to run it.
_ATTEMPTS: Select[Any] = (
    select(
        *_ATTEMPT,
        _TUNED,
        runs.c.owner,
        runs.c.snapshot_id,
        runs.c.spec["data"].label("data"),
        runs.c.stop,
        runs.c.smoke,
        runs.c.max_cost_micros,
        runs.c.max_time_ms,
        runs.c.earlier_ms,
        runs.c.earlier_micros,
        checkpoints.c.snapshot_id.label("resume_snapshot"),
        _age_ms.label("age_ms"),
    )
    .join(runs, runs.c.id == attempts.c.run_id)
    .outerjoin(checkpoints, checkpoints.c.id == attempts.c.resume_checkpoint)
    .where(attempts.c.id == any_(bindparam("wanted", type_=ARRAY(Text))))
)
_LIVE: Select[Any] = (
    select(
        *_ATTEMPT,
        _TUNED,
        runs.c.owner,
        runs.c.project_name,
        runs.c.snapshot_id,
        runs.c.spec,
        runs.c.engine_spec,
        runs.c.secrets,
        runs.c.stop,
        runs.c.launch,
        runs.c.max_cost_micros,
        runs.c.max_time_ms,
        runs.c.earlier_ms,
        runs.c.earlier_micros,
        runs.c.restart_why,
        checkpoints.c.number.label("resume_number"),
        checkpoints.c.snapshot_id.label("resume_snapshot"),
        checkpoints.c.newest.label("resume_newest"),
    )
    .join(runs, runs.c.id == attempts.c.run_id)
    .outerjoin(checkpoints, checkpoints.c.id == attempts.c.resume_checkpoint)
    .where(attempts.c.site_id == bindparam("site"), attempts.c.ended_at.is_(None))
    .order_by(attempts.c.fence)
)
_LOCKED = (
    select(*_LIFE)
    .where(runs.c.id == bindparam("run"))
    .with_for_update(key_share=True)  # what refers to it is not held up
)
_LOCKED_ALL = (
    select(*_LIFE)
    .where(runs.c.id == any_(bindparam("wanted", type_=ARRAY(Text))))
    .order_by(runs.c.id)  # two who lock several do it in the same order
    .with_for_update(key_share=True)
)
_INSERT_ATTEMPT = insert(attempts).values(lease_until=_after(bindparam("lease_s", type_=Double)))
_UPDATE_RUN = update(runs).where(runs.c.id == bindparam("own"))
_UPDATE_ATTEMPT = (
    update(attempts).where(attempts.c.id == bindparam("own")).returning(attempts.c.site_id)
)
_ADD_EVENT = insert(run_events).values(
    run_id=bindparam("event_of"),
    seq=select(func.coalesce(func.max(run_events.c.seq), 0) + 1)
    .where(run_events.c.run_id == bindparam("event_of"))
    .scalar_subquery(),
    kind=bindparam("event_kind"),
    text=bindparam("event_words"),
)
_told = _ADD_EVENT.cte("told")
_INSERT_RUN = insert(runs).add_cte(_told)
_UPDATE_RUN_TELLING = _UPDATE_RUN.add_cte(_told)


def _parted(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those that the database computes, which are part of the statement, and the others."""
    computed = {name: value for name, value in values.items() if isinstance(value, ClauseElement)}
    return computed, {name: value for name, value in values.items() if name not in computed}


def _event(run: str, kind: str, words: str) -> dict[str, Any]:
    return {"event_of": run, "event_kind": kind, "event_words": words}


class RunRepository:
    """Rows of the training domain; used by its own services alone."""

    async def insert_run(self, tx: Tx, values: dict[str, Any]) -> None:
        """With the first event of its timeline."""
        await tx.execute(_INSERT_RUN, values | _event(values["id"], values["state"], ""))

    async def run(self, tx: Tx, run: RunId, *, owner: UserId | None = None) -> RunRow | None:
        statement = _SHOWN.where(runs.c.id == run)
        if owner is not None:
            statement = statement.where(runs.c.owner == owner)
        return (await tx.execute(statement)).one_or_none()

    async def lock_run(self, tx: Tx, run: RunId) -> RunRow | None:
        """The part of the run that decides what may happen next, locked until the commit."""
        return (await tx.execute(_LOCKED, {"run": run})).one_or_none()

    async def lock_runs(self, tx: Tx, wanted: Collection[RunId]) -> dict[RunId, RunRow]:
        """``lock_run`` for several, in one statement."""
        if not wanted:
            return {}
        rows = await tx.execute(_LOCKED_ALL, {"wanted": list(wanted)})
        return {RunId(row.id): row for row in rows}

    async def runs_of(
        self,
        tx: Tx,
        owner: UserId,
        kind: RunFilter,
        *,
        before: str | None,
        limit: int,
    ) -> list[RunRow]:
        """The owner's runs, the newest first."""
        statement = _SHOWN.where(runs.c.owner == owner).order_by(runs.c.id.desc()).limit(limit)
        if before:
            statement = statement.where(runs.c.id < before)
        if kind.states:
            statement = statement.where(runs.c.state.in_(kind.states))
        if kind.project:
            statement = statement.where(
                or_(runs.c.project_id == kind.project, runs.c.project_name == kind.project)
            )
        if kind.sweep:
            statement = statement.where(runs.c.sweep_id == kind.sweep)
        if not kind.trials:
            statement = statement.where(runs.c.sweep_id.is_(None))
        if kind.tag or kind.text:
            statement = statement.where(labelled(kind))
        return list(await tx.execute(statement))

    async def update_run(
        self, tx: Tx, run: RunId, values: dict[str, Any], *, event: tuple[str, Said] | None = None
    ) -> None:
        """Change the run's row, which the caller has locked; ``event``: with ``add_event`` of that."""
        computed, plain = _parted(values)
        statement = _UPDATE_RUN if event is None else _UPDATE_RUN_TELLING
        told = {} if event is None else _event(run, *event)
        await tx.execute(
            statement.values(computed) if computed else statement, {"own": run, **plain, **told}
        )

    async def next_fences(self, tx: Tx, count: int) -> list[int]:
        statement = text("SELECT nextval('attempt_fences') FROM generate_series(1, :count)")
        return list((await tx.execute(statement, {"count": count})).scalars())

    async def insert_attempts(self, tx: Tx, rows: list[dict[str, Any]], *, lease_s: float) -> None:
        await tx.execute(_INSERT_ATTEMPT, [{**row, "lease_s": lease_s} for row in rows])

    async def attempt(self, tx: Tx, attempt: AttemptId) -> RunRow | None:
        """The attempt with its run's owner."""
        return (await self.attempts(tx, {attempt})).get(attempt)

    async def attempts(self, tx: Tx, wanted: Collection[AttemptId]) -> dict[AttemptId, RunRow]:
        """Some attempts, each with its run's owner."""
        rows = await tx.execute(_ATTEMPTS, {"wanted": list(wanted)})
        return {AttemptId(row.id): row for row in rows}

    async def environment_lock(self, tx: Tx, run: RunId) -> str | None:
        """Of the run's last attempt that got as far as its environment."""
        found = attempts.c.environment_lock
        statement = select(found).where(attempts.c.run_id == run, found.is_not(None))
        statement = statement.order_by(attempts.c.number.desc()).limit(1)
        return (await tx.execute(statement)).scalar_one_or_none()

    async def site_of(self, tx: Tx, attempt: AttemptId) -> SiteId:
        """Where the attempt was placed."""
        statement = select(attempts.c.site_id).where(attempts.c.id == attempt)
        return SiteId((await tx.execute(statement)).scalar_one())

    async def update_attempt(self, tx: Tx, attempt: AttemptId, values: dict[str, Any]) -> SiteId:
        """Change the attempt's row; answers where it was placed."""
        computed, plain = _parted(values)
        statement = _UPDATE_ATTEMPT.values(computed) if computed else _UPDATE_ATTEMPT
        done = await tx.execute(statement, {"own": attempt, **plain})
        return SiteId(done.scalar_one())

    async def live_attempts(self, tx: Tx, site: SiteId) -> list[RunRow]:
        """Everything that should be on the site, with the run's spec."""
        return list(await tx.execute(_LIVE, {"site": site}))

    async def renew(
        self, tx: Tx, site: SiteId, held: Iterable[tuple[AttemptId, int]], *, lease_s: float
    ) -> set[str]:
        """Extends the leases of those that are still live under these fences; their ids.

        An attempt whose row is locked (its facts are being applied) is not waited for while its
        lease is nearly whole: two who wait for several rows each might wait for each other.
        """
        pairs = list(held)
        if not pairs:
            return set()
        own = and_(
            attempts.c.site_id == site,
            attempts.c.ended_at.is_(None),
            tuple_(attempts.c.id, attempts.c.fence).in_(pairs),
        )
        free = select(attempts.c.id).where(own).with_for_update(key_share=True, skip_locked=True)
        renewed = await self._extend(tx, attempts.c.id.in_(free), lease_s)
        if len(renewed) == len(pairs):
            return renewed
        nearly_whole = attempts.c.lease_until > _after(lease_s * NEARLY_WHOLE)
        renewed |= set((await tx.execute(select(attempts.c.id).where(own, nearly_whole))).scalars())
        rest = and_(own, attempts.c.id.not_in(renewed))
        return renewed | await self._extend(tx, rest, lease_s)

    async def _extend(self, tx: Tx, which: ColumnElement[bool], lease_s: float) -> set[str]:
        statement = update(attempts).where(which).values(lease_until=_after(lease_s))
        return set((await tx.execute(statement.returning(attempts.c.id))).scalars())

    async def expired(self, tx: Tx) -> list[RunRow]:
        """Attempts whose lease has run out by the database's clock."""
        statement = select(attempts.c.id, attempts.c.run_id).where(
            attempts.c.ended_at.is_(None), attempts.c.lease_until < func.clock_timestamp()
        )
        return list(await tx.execute(statement))

    async def add_event(self, tx: Tx, run: RunId, kind: str, words: Said) -> None:
        """Append to the timeline; the run's row must be locked by the caller."""
        await tx.execute(_ADD_EVENT, _event(run, kind, words))

    async def events(self, tx: Tx, run: RunId, *, after: int, limit: int) -> list[RunRow]:
        statement = (
            select(run_events)
            .where(run_events.c.run_id == run, run_events.c.seq > after)
            .order_by(run_events.c.seq)
            .limit(limit)
        )
        return list(await tx.execute(statement))
