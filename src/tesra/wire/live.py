"""What live pages and the log beside them are told: docs/spec/live.md."""

from datetime import datetime

from pydantic import Field

from tesra.wire.common import Answer
from tesra.wire.training import QueuePlace, Run, RunForecast, RunState


class LiveState(Answer):
    """A run as it is now.

    ``cost_cny``: of its bill, or of its use so far; ``checkpoint``: the number of the newest one.
    """

    run: str
    state: RunState
    phase: str | None
    reason: str | None
    attempt: int
    restarts: int
    exit_code: int | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    th: str
    cost_cny: str | None
    bill: str | None
    output: str | None
    output_size_bytes: int | None
    checkpoint: int | None
    warnings: list[str]
    queue: QueuePlace | None
    forecast: RunForecast | None

    @classmethod
    def of(cls, run: Run, forecast: RunForecast | None, *, checkpoint: int | None) -> "LiveState":
        so_far = forecast.cost_so_far if forecast is not None else None
        return cls(
            run=run.id,
            state=run.state,
            phase=run.phase,
            reason=run.reason,
            attempt=run.attempt,
            restarts=run.restarts,
            exit_code=run.exit_code,
            created_at=run.created_at,
            started_at=run.started_at,
            ended_at=run.ended_at,
            th=run.th,
            cost_cny=so_far if run.amount_cny is None else run.amount_cny,
            bill=run.bill,
            output=run.output,
            output_size_bytes=run.output_size_bytes,
            checkpoint=checkpoint,
            warnings=run.warnings,
            queue=run.queue,
            forecast=forecast,
        )


class DeviceUse(Answer):
    """The newest samples of a device of a run; what is not known is left out."""

    device: str
    index: int
    node: str
    at: datetime
    use: float | None = None
    memory_bytes: float | None = None
    power_w: float | None = None


class LogPart(Answer):
    """Whole lines of one rank (-1: Tesra's own voice), up to ``cursor``."""

    cursor: int
    attempt: int
    rank: int
    text: str


class LogParts(Answer):
    """``first`` goes into ``before``, ``last`` into ``after``; ``more``: there are some in that direction."""

    parts: list[LogPart] = Field(default=[])
    first: int
    last: int
    more: bool


class LogHit(Answer):
    """A line that was found, ``line`` of segment ``cursor``, counted from 0."""

    cursor: int
    line: int
    attempt: int
    rank: int
    text: str


class LogSearch(Answer):
    """``next`` goes into ``after`` to search on; null when all was searched."""

    hits: list[LogHit] = Field(default=[])
    next: int | None
    searched_bytes: int
