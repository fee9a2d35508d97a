"""A run's log as NDJSON: what is stored first, then what comes, then the terminal state.

Bounded memory for any viewer: segments are read from the database as fast as the viewer takes
them, so a slow viewer holds nothing here but its cursor.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from tesra.kit.ids import RunId, UserId
from tesra.training.logs import Segment
from tesra.web.context import Services
from tesra.wire.training import LogChunk, Run

QUIET_S = 15.0  # a silent run's viewer looks for itself this often, so that a lost wake-up heals
TERMINAL = frozenset({"succeeded", "failed", "stopped"})


@dataclass(frozen=True, slots=True)
class LogView:
    """What one viewer asked for."""

    owner: UserId
    run: RunId
    rank: int | None
    after: int
    follow: bool


async def log_lines(services: Services, view: LogView) -> AsyncIterator[bytes]:
    """``LogChunk`` lines; ends after the terminal state, or at the present end without ``follow``."""
    shown: tuple[object, ...] = ()
    cursor = view.after
    with services.listener.subscribe(f"run:{view.run}") as changes:
        while True:
            async with services.database.begin() as tx:
                run = await services.training.run(tx, view.owner, view.run)
                segments = await services.training.log(tx, view.run, after=cursor, rank=view.rank)
            for segment in segments:
                cursor = segment.seq
                yield _line(_chunk(segment))
            if segments:
                continue  # the state was read before these: look again before it is told
            now = (run.state, run.phase, run.reason, run.attempt)
            if now != shown:
                shown = now
                yield _line(_state(run, cursor))
            if run.state in TERMINAL or not view.follow:
                return
            await changes.wait(QUIET_S)
            if services.listener.ending:
                return  # the viewer comes back with its cursor


def _chunk(segment: Segment) -> LogChunk:
    return LogChunk(
        cursor=str(segment.seq),
        attempt=segment.attempt,
        rank=segment.rank,
        text=segment.data.decode("utf-8", errors="replace"),
    )


def _state(run: Run, cursor: int) -> LogChunk:
    return LogChunk(
        cursor=str(cursor),
        attempt=run.attempt,
        rank=-1,
        state=run.state,
        phase=run.phase,
        reason=run.reason,
    )


def _line(chunk: LogChunk) -> bytes:
    return chunk.model_dump_json(exclude_none=True).encode() + b"\n"
