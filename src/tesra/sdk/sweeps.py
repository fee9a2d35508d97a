"""The verbs of sweeps."""

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError

from tesra.sdk.connection import Connection
from tesra.sdk.mistakes import RequestInvalid, mistake
from tesra.wire.sweeps import Sweep, SweepMore, SweepRequest, Trial
from tesra.wire.training import RunRequest

OVER = frozenset({"finished", "stopped", "failed"})
POLL_S = 1.0


class SweepVerbs:
    """What ``Client`` can do with sweeps."""

    connection: Connection

    def sweep(
        self,
        project: str,
        space: Mapping[str, str],
        metric: str,
        *,
        sweep: Mapping[str, Any] | None = None,
        **wishes: Any,
    ) -> Sweep:
        """Try many points of a space: ``{"lr": "loguniform(1e-5,1e-1)"}``.

        ``sweep`` are the other fields of ``SweepRequest`` (trials, parallel, algorithm, ...);
        ``wishes`` those of ``RunRequest``, which all trials share (entry, engine, devices, ...).
        """
        try:
            run = RunRequest(project=project, **wishes)
            request = SweepRequest(run=run, space=dict(space), metric=metric, **(sweep or {}))
        except ValidationError as error:
            raise RequestInvalid(mistake(error)) from error
        return self.connection.post("/sweeps", Sweep, request, once=True)

    def sweeps(self, limit: int | None = None) -> list[Sweep]:
        """Newest first."""
        return list(self.connection.pages("/sweeps", Sweep, limit=limit))

    def show_sweep(self, sweep: str) -> Sweep:
        return self.connection.get(f"/sweeps/{quote(sweep, safe='')}", Sweep)

    def trials(self, sweep: str) -> list[Trial]:
        """All trials, by number."""
        return list(self.connection.pages(f"/sweeps/{quote(sweep, safe='')}/trials", Trial))

    def stop_sweep(self, sweep: str) -> Sweep:
        """Stop all its trials; stopping twice is stopping once."""
        path = f"/sweeps/{quote(sweep, safe='')}/stop"
        return self.connection.post(path, Sweep, once=True)

    def resume_sweep(
        self,
        sweep: str,
        trials: int,
        *,
        max_cost_cny: str | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> Sweep:
        """So many more trials."""
        try:
            more = SweepMore(trials=trials, max_cost_cny=max_cost_cny, secrets=dict(secrets or {}))
        except ValidationError as error:
            raise RequestInvalid(mistake(error)) from error
        path = f"/sweeps/{quote(sweep, safe='')}/resume"
        return self.connection.post(path, Sweep, more, once=True)

    def wait_sweep(self, sweep: str, timeout_s: float | None = None) -> Sweep:
        """The sweep when it is over; ``TimeoutError`` when it takes longer than that."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (found := self.show_sweep(sweep)).state not in OVER:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"{sweep} is still {found.state} after {timeout_s:g} s.")
            time.sleep(POLL_S)
        return found
