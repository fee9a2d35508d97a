"""The dispatcher: gives free devices to queued runs. One at a time holds the lease and works."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.exc import SQLAlchemyError

from tesra.compute.model import Device
from tesra.compute.scheduling import Placement, possible
from tesra.db import leases
from tesra.db.engine import Tx
from tesra.db.notify import Listener
from tesra.kit.ids import AttemptId, UserId, new_id
from tesra.training.admission import Admission
from tesra.training.attempts import LEASE_S, AttemptService
from tesra.training.domains import Domains
from tesra.training.holdings import Holdings
from tesra.training.model import Placed
from tesra.training.queue_rows import waiting_of
from tesra.training.queueing import QueueService
from tesra.training.repository import RunRepository, RunRow
from tesra.training.smoke import place_smoke_first

log = logging.getLogger(__name__)

LEASE_NAME = "dispatcher"
HOLD_S = 6.0  # a killed server is replaced after this
RENEW_S = 1.0  # so long a round need not renew it: each looks whether it still holds
IDLE_S = 2.0  # a payment or an enrolment is noticed after this at the latest
ROUND_S = 0.01
QUEUE_AT_LEAST = 64  # and some for each free device: enough to fill them, quick to load


class Dispatcher:
    """Loads the queue and the free devices, lets ``place_runs`` decide, writes the placements."""

    def __init__(
        self, domains: Domains, listener: Listener, *, attempts: AttemptService, holder: str
    ) -> None:
        self._database = domains.database
        self._listener = listener
        self._compute = domains.compute
        self._transitions = domains.transitions
        self._attempts = attempts
        self._repository = RunRepository()
        self._queue = QueueService(domains.compute)
        self._admission = Admission(domains.billing)
        self._holdings = Holdings()
        self._holder = holder
        self._renewed_at = 0.0

    async def run(self) -> None:
        """Work for ever: dispatch when something changes, expire leases after one full lease of watching."""
        watching_since = asyncio.get_running_loop().time()
        token: int | None = None
        try:
            with self._listener.subscribe("dispatch") as changes:
                while True:
                    token = await self._hold(token)
                    if token is not None:
                        await self.dispatch(token)
                        if asyncio.get_running_loop().time() - watching_since > LEASE_S:
                            await self._attempts.expire()
                    await asyncio.sleep(ROUND_S)  # what ends together is placed together
                    await changes.wait(IDLE_S)
        finally:
            if token is not None:
                await self._let_go(token)

    async def dispatch(self, token: int) -> int:
        """One round in one transaction; how many runs were placed."""
        async with self._database.begin() as tx:
            if not await leases.holds(tx, LEASE_NAME, token):
                return 0
            free = await self._compute.lock_free_devices(tx)
            queue = await self._queue.queued(tx, QUEUE_AT_LEAST + 4 * len(free))
            queue = await self._admission.admit(tx, queue, free)
            if not free or not queue:
                return 0
            standings = await self._queue.standings(tx, {UserId(row.owner) for row in queue})
            fitting = possible(map(waiting_of, queue), free)
            if len(fitting) < len(queue):  # some want more than is free: is there as much at all?
                everything = await self._compute.online_devices(tx)
                fitting = possible(map(waiting_of, queue), everything)
            smoke = {row.id for row in queue if row.smoke}
            near = await self._holdings.near(tx, queue)
            waiting = [
                (replace(run, near=near.get(run.run, run.near)), run.run in smoke)
                for run in fitting
            ]
            placements = place_smoke_first(waiting, free, standings)
            await self._write(tx, placements, {row.id: row for row in queue})
            return len(placements)

    async def _hold(self, token: int | None) -> int | None:
        """Keep the lease, or try to get it; None while another server has it."""
        now = asyncio.get_running_loop().time()
        if token is not None and now - self._renewed_at < RENEW_S:
            return token
        self._renewed_at = now
        async with self._database.begin() as tx:
            if token is not None and await leases.renew(
                tx, LEASE_NAME, self._holder, token, HOLD_S
            ):
                return token
            return await leases.claim(tx, LEASE_NAME, self._holder, HOLD_S)

    async def _let_go(self, token: int) -> None:
        """The next server need not wait until the lease expires; without a database it does."""
        with contextlib.suppress(SQLAlchemyError):
            async with self._database.begin() as tx:
                await leases.release(tx, LEASE_NAME, self._holder, token)

    async def _write(self, tx: Tx, placements: list[Placement], rows: dict[str, RunRow]) -> None:
        if not placements:
            return
        fences = await self._repository.next_fences(tx, len(placements))
        attempts = []
        for placement, fence in zip(placements, fences, strict=True):
            row = rows[placement.run]
            attempts.append(
                {
                    "id": new_id("att"),
                    "run_id": row.id,
                    "number": row.attempts + 1,
                    "site_id": placement.devices[0].site,
                    "fence": fence,
                    "devices": _assigned(placement.devices),
                    "rating_micro_t": sum(d.rating_micro_t for d in placement.devices),
                }
            )
        await self._repository.insert_attempts(tx, attempts, lease_s=LEASE_S)
        ids = [AttemptId(str(attempt["id"])) for attempt in attempts]
        gangs = {
            attempt: placement.devices for attempt, placement in zip(ids, placements, strict=True)
        }
        await self._compute.reserve(tx, gangs)
        topics = [f"site:{placement.devices[0].site}" for placement in placements]
        for placement, attempt in zip(placements, ids, strict=True):
            topics += await self._transitions.apply(tx, placement.run, Placed(attempt))
        await self._transitions.tell(tx, topics)


def _assigned(devices: Sequence[Device]) -> list[dict[str, object]]:
    return [
        {
            "node": device.node,
            "device": device.id,
            "index": device.index,
            "device_class": device.device_class,
            "rating_micro_t": device.rating_micro_t,
        }
        for device in devices
    ]
