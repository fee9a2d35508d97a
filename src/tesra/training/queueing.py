"""Where a queued run stands and what it waits for, said from the same order that placing follows."""

from collections.abc import Sequence
from dataclasses import dataclass

from tesra.compute.model import Device
from tesra.compute.scheduling import Standing, Waiting, fits, queue_order
from tesra.compute.service import ComputeService
from tesra.db.engine import Tx
from tesra.kit.ids import RunId, UserId
from tesra.kit.saying import Said, said
from tesra.training.queue_rows import QueueRows, waiting_of
from tesra.training.repository import RunRow
from tesra.wire.training import QueuePlace

PAYMENT_DUE = said("payment due")
LIMIT_REACHED = said("limit reached")
HELD_UP = frozenset({PAYMENT_DUE, LIMIT_REACHED})  # phases of runs that placing leaves out
_LOOKED_AT = 2000


@dataclass(frozen=True, slots=True)
class Queue:
    """Who waits, who has used what, and what there is."""

    rows: list[RunRow]
    waiting: list[Waiting]
    standings: dict[UserId, Standing]
    devices: list[Device]
    order: list[RunId]


class QueueService:
    """The queue as users see it."""

    def __init__(self, compute: ComputeService) -> None:
        self._compute = compute
        self._rows = QueueRows()

    async def standings(self, tx: Tx, users: set[UserId]) -> dict[UserId, Standing]:
        """What decides the turns of these users."""
        held = await self._rows.held(tx)
        recent = await self._compute.shares.of(tx, users)
        return {
            user: Standing(
                used_micro_th=recent[user].micro_th if user in recent else 0.0,
                held_micro_t=held.get(user, 0),
                idle_s=recent[user].idle_s if user in recent else float("inf"),
            )
            for user in users
        }

    async def queued(self, tx: Tx, limit: int) -> list[RunRow]:
        """Queued runs, each user's first ones first."""
        return await self._rows.queued(tx, limit)

    async def look(self, tx: Tx) -> Queue:
        """The whole queue in the order of turns; those held up for money are not in the order."""
        rows = await self._rows.queued(tx, _LOOKED_AT)
        waiting = [waiting_of(row) for row in rows if row.phase not in HELD_UP]
        standings = await self.standings(tx, {run.owner for run in waiting})
        devices = await self._compute.online_devices(tx)
        order = queue_order(waiting, standings, devices)
        return Queue(rows, waiting, standings, devices, order)


def place_of(row: RunRow, queue: Queue) -> QueuePlace | None:
    """The run's place and why it waits; None for a run that does not wait."""
    if row.phase in HELD_UP:
        kind = "payment" if row.phase == PAYMENT_DUE else "limit"
        return QueuePlace(
            place=None, of=len(queue.order), waits_for=kind, why=Said(row.reason or "")
        )
    if row.id not in queue.order:
        return None
    place = queue.order.index(RunId(row.id)) + 1
    run = next(one for one in queue.waiting if one.run == row.id)
    kind, why = _why(run, place, queue)
    return QueuePlace(place=place, of=len(queue.order), waits_for=kind, why=why)


def _why(run: Waiting, place: int, queue: Queue) -> tuple[str, Said]:
    suitable = [d for d in queue.devices if run.device_class in (None, d.device_class)]
    if not any(device.reachable for device in suitable):
        return "devices", said(
            f"No device of class {run.device_class} is online now: it starts when one is back."
            if run.device_class
            else "No device is online now: it starts when one is back."
        )
    if not fits(run, suitable):
        return "devices", _too_few(run, len(suitable))
    free = [device for device in suitable if device.free]
    ahead = queue.order[: place - 1]
    have = _have(run, len(free), len(suitable))
    first = _behind(run, ahead, queue.waiting)
    have = Said(f"{have}; {first}") if first else have
    if not fits(run, free):
        return "devices", said(
            f"Needs {run.devices:d} on one node: {have}."
            if _on_one(run)
            else f"Needs {run.devices:d}: {have}."
        )
    if not ahead:
        return "devices", said(f"Starts in a moment: {have}.")
    return "share", said(f"Its turn comes later: {have}.")


def _have(run: Waiting, free: int, suitable: int) -> Said:
    return said(
        f"{free:d} of {suitable:d} devices of class {run.device_class} free"
        if run.device_class
        else f"{free:d} of {suitable:d} devices free"
    )


def _too_few(run: Waiting, present: int) -> Said:
    needs = said(
        f"{run.devices:d} devices of class {run.device_class} at once"
        if run.device_class
        else f"{run.devices:d} devices at once"
    )
    needs = said(f"{needs} on one node") if _on_one(run) else needs
    there = said("there is only 1 now" if present == 1 else f"there are only {present:d} now")
    return said(f"Needs {needs}, and {there}, busy or not: it starts when more are back.")


def _on_one(run: Waiting) -> bool:
    return run.one_node and run.devices > 1


def _behind(run: Waiting, ahead: Sequence[RunId], waiting: Sequence[Waiting]) -> Said | None:
    """Who goes first, and why."""
    before = set(ahead)
    own = sum(one.owner == run.owner and one.run in before for one in waiting)
    others = len(before) - own
    if own and others:
        return said(
            f"{own:d} of your own and {others:d} of users who have used less lately or waited longer"
            " first"
        )
    if own:
        return said(f"{own:d} of your own first")
    if others:
        return said(f"{others:d} of users who have used less lately or waited longer first")
    return None
