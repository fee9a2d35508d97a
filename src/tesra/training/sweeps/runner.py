"""The runner of sweeps: one server at a time holds its lease and carries all sweeps on."""

import asyncio
import contextlib
import logging

from sqlalchemy.exc import SQLAlchemyError

from tesra.db import leases
from tesra.db.engine import Database
from tesra.db.notify import Listener, Subscription
from tesra.kit.ids import RunId
from tesra.training.sweeps.conductor import LEASE_NAME, Conductor
from tesra.training.sweeps.service import TOPIC

log = logging.getLogger(__name__)

HOLD_S = 6.0  # a killed server is replaced after this
IDLE_S = 2.0  # a payment, or a cap that is reached, is noticed after this at the latest
ROUND_S = 0.05  # a look is at all trials of a sweep


class SweepRunner:
    """Woken by new sweeps, by trials that end, and by the metrics of trials that may be pruned."""

    def __init__(
        self, database: Database, listener: Listener, conductor: Conductor, *, holder: str
    ) -> None:
        self._database = database
        self._listener = listener
        self._conductor = conductor
        self._holder = holder
        self._heard: set[str] = set()

    async def run(self) -> None:
        """Work for ever."""
        token: int | None = None
        try:
            with self._listener.subscribe(TOPIC) as changes:
                try:
                    while True:
                        token = await self._hold(token)
                        if token is not None:
                            self._hear(changes, await self.round(token))
                        await asyncio.sleep(ROUND_S)  # what ends together is settled together
                        await changes.wait(IDLE_S)
                finally:
                    self._hear(changes, set())
        finally:
            if token is not None:
                await self._let_go(token)

    async def round(self, token: int) -> set[RunId]:
        """One step of every sweep; the runs whose metrics matter."""
        watched: set[RunId] = set()
        for sweep in await self._conductor.live():
            watched |= await self._conductor.advance(sweep, token)
        return watched

    def _hear(self, changes: Subscription, runs: set[RunId]) -> None:
        wanted = {f"metrics:{run}" for run in runs}
        for topic in wanted - self._heard:
            self._listener.hear(topic, changes)
        for topic in self._heard - wanted:
            self._listener.unhear(topic, changes)
        self._heard = wanted

    async def _hold(self, token: int | None) -> int | None:
        """Keep the lease, or try to get it; None while another server has it."""
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
