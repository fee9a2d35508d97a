"""Smoke runs: the first seconds of a script on one CPU slot, free of charge, so with limits."""

from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import func, select

from tesra.compute.model import CPU_CLASS, Device
from tesra.compute.scheduling import Placement, Standing, Waiting, place_runs
from tesra.db.engine import Tx
from tesra.kit.errors import Conflict, TooMany, Unavailable
from tesra.kit.ids import UserId
from tesra.training.model import TERMINAL
from tesra.training.tables import runs
from tesra.wire.training import RunRequest

SMOKE_S = 20.0
A_DAY = 50  # of one user
FIRST = 100  # among the user's own


class SmokeRunning(Conflict):
    """One smoke run at a time."""


class SmokesUsedUp(TooMany):
    """So many smoke runs a day are free."""


class NoCpuSlot(Unavailable):
    """No node offers a CPU slot now, and a smoke run takes nothing else."""


def as_smoke(request: RunRequest) -> RunRequest:
    """The same on one CPU slot, as a gang of one: nobody waits for others."""
    one = {"devices": 1, "device_class": CPU_CLASS, "launch": "gang", "priority": FIRST}
    return request.model_copy(update={**one, "max_cost_cny": None, "max_time_s": None})


def check_slots(devices: Iterable[Device]) -> None:
    """Raises ``NoCpuSlot`` when the network has none."""
    if not any(device.device_class == CPU_CLASS for device in devices):
        raise NoCpuSlot(
            way_out="Start the run itself: what fails in its first seconds costs next to nothing."
        )


async def check_room(tx: Tx, owner: UserId) -> None:
    """Raises when the owner has a smoke run that goes, or had enough today; the account is locked."""
    own = select(runs.c.id).where(runs.c.owner == owner, runs.c.smoke)
    live = own.where(runs.c.state.not_in([state.value for state in TERMINAL]))
    going = (await tx.execute(live.limit(1))).scalar_one_or_none()
    if going is not None:
        raise SmokeRunning(
            f"One smoke run at a time: {going} goes.", way_out=f"End it: `tesra stop {going}`."
        )
    today = own.where(runs.c.created_at > func.now() - timedelta(days=1))
    had = (await tx.execute(select(func.count()).select_from(today.subquery()))).scalar_one()
    if had >= A_DAY:
        raise SmokesUsedUp(
            f"{A_DAY} smoke runs a day are free, and you had them.",
            way_out="Start the run itself, or try again tomorrow.",
        )


def place_smoke_first(
    waiting: Iterable[tuple[Waiting, bool]],
    free: list[Device],
    standings: dict[UserId, Standing],
) -> list[Placement]:
    """``place_runs`` with the smoke runs (``True``) ahead of all others: each holds a slot for seconds."""
    everyone = list(waiting)
    placements = place_runs([run for run, smoke in everyone if smoke], free, {})
    taken = {device.id for placement in placements for device in placement.devices}
    left = [device for device in free if device.id not in taken]
    return placements + place_runs([run for run, smoke in everyone if not smoke], left, standings)
