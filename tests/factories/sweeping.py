"""A sweep on a server in this process: the site's trials report what a test wants."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from factories.network import NetworkDouble
from tesra.app.bootstrap import make_sweep_runner
from tesra.db import leases
from tesra.kit.ids import UserId
from tesra.training.sweeps.conductor import LEASE_NAME
from tesra.training.sweeps.model import SweepId
from tesra.wire.site import Assignment, Ended, Started, Usage
from tesra.wire.sweeps import Sweep, SweepMore, SweepRequest, Trial
from tesra.wire.training import RunRequest


@dataclass
class SweepDouble:
    """Carries sweeps of one user on by hand."""

    network: NetworkDouble
    owner: UserId
    offsets: dict[str, int] = field(default_factory=dict)

    async def begin(self, **wishes: Any) -> Sweep:
        services = self.network.services
        whole = {"project": "digits", "entry": "train.py"} | wishes.pop("run", {})
        run = RunRequest(**whole)
        base = {"space": {"lr": "loguniform(1e-4,1)"}, "metric": "loss", "seed": 1}
        request = SweepRequest(run=run, **(base | wishes))
        checked = await services.sweeps.check(self.owner, request)
        async with services.database.begin() as tx:
            return await services.sweeps.create(tx, self.owner, checked)

    async def step(self) -> int:
        """What the runner and the dispatcher do once; how many trials were placed."""
        runner = make_sweep_runner(self.network.services)
        async with self.network.services.database.begin() as tx:
            token = await leases.claim(tx, LEASE_NAME, "test", 600) or self._token
            self._token = token
        await runner.round(token)
        return await self.network.dispatch()

    _token: int = 0

    async def live(self) -> list[Assignment]:
        """What should run, in the order of trials: runs made in one millisecond have none."""
        live = [one for one in await self.network.site.assignments() if one.stop is None]
        numbers = {one.run: (await self.network.run(self.owner, one.run)).trial for one in live}
        return sorted(live, key=lambda one: numbers[one.run] or 0)

    async def report(self, trial: Assignment, *values: float, name: str = "loss") -> None:
        """Steps of a metric, as the node's spool has them."""
        offset = self.offsets.get(trial.attempt, 0)
        lines = b"".join(
            json.dumps(
                {"k": "m", "r": 0, "o": "log", "t": 1_800_000_000.0 + step, "s": step}
                | {"v": {name: value if value == value else "nan"}}
            ).encode()
            + b"\n"
            for step, value in enumerate(values, start=self._steps(trial, len(values)))
        )
        self.offsets[trial.attempt] = await self.network.site.points(trial, lines, offset=offset)

    def _steps(self, trial: Assignment, more: int) -> int:
        key = f"steps:{trial.attempt}"
        first = self.offsets.get(key, 0)
        self.offsets[key] = first + more
        return first + 1

    async def start(self, trial: Assignment) -> None:
        await self.network.site.say(trial, Started(at=datetime.now(UTC)))

    async def end(self, trial: Assignment, *, ms: int = 1000, outcome: str = "succeeded") -> None:
        site = self.network.site
        await site.say(trial, Usage(number=1, started_at=datetime.now(UTC), duration_ms=ms))
        await site.say(trial, Ended(outcome=outcome, exit_code=0))

    async def complete(self, trial: Assignment, *values: float) -> None:
        """All of a trial that goes well."""
        await self.start(trial)
        await self.report(trial, *values)
        await self.end(trial)

    async def sweep(self, sweep: str) -> Sweep:
        async with self.network.services.database.begin() as tx:
            return await self.network.services.sweeps.sweep(tx, self.owner, SweepId(sweep))

    async def trials(self, sweep: str) -> list[Trial]:
        async with self.network.services.database.begin() as tx:
            return await self.network.services.sweeps.trials(tx, self.owner, SweepId(sweep))

    async def stop(self, sweep: str) -> Sweep:
        async with self.network.services.database.begin() as tx:
            return await self.network.services.sweeps.stop(tx, self.owner, SweepId(sweep))

    async def resume(self, sweep: str, trials: int, **more: Any) -> Sweep:
        async with self.network.services.database.begin() as tx:
            return await self.network.services.sweeps.resume(
                tx, self.owner, SweepId(sweep), SweepMore(trials=trials, **more)
            )
