"""What placing needs to know of runs: who waits, and what live runs hold."""

from collections.abc import Collection

from sqlalchemy import ARRAY, Integer, Text, any_, bindparam, func, select, text

from tesra.compute.scheduling import Waiting
from tesra.db.engine import Tx
from tesra.kit.ids import RunId, UserId
from tesra.training.exposure import LiveRun
from tesra.training.model import RunState
from tesra.training.repository import RunRow
from tesra.training.tables import attempts, runs

_LIVE = text("state IN ('placing', 'preparing', 'running')")  # as the index has it
_QUEUED = text("state = 'queued'")
_UNBILLED = text("bill_id IS NULL AND billed_micros > 0")
_of_users = runs.c.owner == any_(bindparam("users", type_=ARRAY(Text)))
_place = func.row_number().over(
    partition_by=runs.c.owner, order_by=(runs.c.priority.desc(), runs.c.id)
)
_waited_s = func.extract("epoch", func.clock_timestamp() - runs.c.created_at)

# Made once: each round of the dispatcher asks.
_WAITING = (
    select(
        runs.c.id,
        runs.c.owner,
        runs.c.devices,
        runs.c.device_class,
        runs.c.launch,
        runs.c.priority,
        runs.c.max_cost_micros,
        runs.c.smoke,
        runs.c.attempts,
        runs.c.phase,
        runs.c.reason,
        runs.c.spec["data"].label("data"),
        _waited_s.label("waited_s"),
        _place.label("place"),
    )
    .where(_QUEUED)
    .order_by(text("place"), runs.c.id)
    .limit(bindparam("most", type_=Integer))
)
_HELD = (
    select(runs.c.owner, func.sum(attempts.c.rating_micro_t))
    .join(attempts, attempts.c.id == runs.c.attempt_id)
    .where(_LIVE)
    .group_by(runs.c.owner)
)
_LIVE_OF = (
    select(
        runs.c.id,
        runs.c.owner,
        runs.c.state,
        runs.c.stop,
        (attempts.c.cost_micros + runs.c.earlier_micros).label("cost_micros"),
        attempts.c.rating_micro_t,
        func.extract("epoch", attempts.c.started_at).label("started_s"),
    )
    .join(attempts, attempts.c.id == runs.c.attempt_id)
    .where(_LIVE, _of_users)
)
_UNBILLED_OF = (
    select(runs.c.owner, func.sum(runs.c.billed_micros))
    .where(_UNBILLED, _of_users)
    .group_by(runs.c.owner)
)


class QueueRows:
    """Rows of the queue; used by training's own services alone."""

    async def queued(self, tx: Tx, limit: int) -> list[RunRow]:
        """Each user's first by priority and age, then each one's second, …"""
        return list(await tx.execute(_WAITING, {"most": limit}))

    async def held(self, tx: Tx) -> dict[UserId, int]:
        """The rating, in micro-T, of all devices that each user's live runs hold."""
        return {UserId(owner): int(held) for owner, held in await tx.execute(_HELD)}

    async def live(self, tx: Tx, users: Collection[UserId]) -> dict[UserId, list[LiveRun]]:
        """What each of these users' live runs have cost so far; a list for each user.

        What ended trials of a sweep have cost is in it, as if they lived, until its bill is made.
        """
        wanted = {"users": list(users)}
        found: dict[UserId, list[LiveRun]] = {user: [] for user in users}
        for row in await tx.execute(_LIVE_OF, wanted):
            found[UserId(row.owner)].append(
                LiveRun(
                    run=RunId(row.id),
                    cost_micros=row.cost_micros,
                    rating_micro_t=row.rating_micro_t,
                    started_s=float(row.started_s or 0),
                    endable=row.state == RunState.RUNNING and row.stop is None,
                )
            )
        for owner, micros in await tx.execute(_UNBILLED_OF, wanted):
            found[UserId(owner)].append(LiveRun(RunId(""), int(micros), 0, 0.0, endable=False))
        return found


def waiting_of(row: RunRow) -> Waiting:
    """A queued run as placing sees it."""
    return Waiting(
        run=RunId(row.id),
        owner=UserId(row.owner),
        devices=row.devices,
        device_class=row.device_class,
        one_node=row.launch == "single",
        waited_s=float(row.waited_s),
        priority=row.priority,
    )
