"""What one viewer of a run is sent: what is stored already, at its own pace, then what comes.

Bounded memory: stored lines are read a part at a time as fast as the viewer takes them; what
comes waits in its channel, whose oldest lines go first.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from tesra.kit.ids import RunId, UserId
from tesra.training.log_reading import Span, is_last, read_log, start_of_tail
from tesra.web.context import Services
from tesra.web.live.events import RETRY, event, log_events
from tesra.web.live.hubs import Hubs
from tesra.web.live.run_hub import RunHub

STORED_BYTES = 2**18  # of stored lines in memory for one viewer


@dataclass(frozen=True, slots=True)
class RunView:
    """What one viewer asked for: lines behind ``after``, or about the last ``tail``, or all."""

    owner: UserId
    run: RunId
    rank: int | None = None
    after: int | None = None
    tail: int | None = None


async def run_events(services: Services, hubs: Hubs, view: RunView) -> AsyncIterator[bytes]:
    """The stream of events; ends behind the terminal state, and when the server ends."""
    with hubs.enter(f"run:{view.run}", lambda: RunHub(services, view.run, view.owner)) as hub:
        await hub.ready()
        if hub.over and not hub.finished:
            return
        cursor = await _start(services, hub, view)
        yield RETRY + event(
            "begin", {"run": view.run, "after": cursor, "newest": max(cursor, hub.cursor)}
        )
        while cursor < (target := hub.cursor):
            if services.listener.ending:
                return  # the viewer comes back with its cursor
            span = Span(cursor, target, view.rank)
            async with services.database.begin() as tx:
                segments = await read_log(tx, view.run, span, limit_bytes=STORED_BYTES)
            for lines in log_events(segments, cursor):
                yield lines.data
            whole = is_last(segments, limit_bytes=STORED_BYTES)
            cursor = target if whole else segments[-1].seq
        channel = hub.attach(view.rank)  # nothing was awaited since the hub's cursor was reached
        try:
            while data := await channel.take():
                yield data
        finally:
            hub.channels.discard(channel)


async def _start(services: Services, hub: RunHub, view: RunView) -> int:
    """The cursor behind which this viewer's lines begin."""
    if view.after is not None:
        if view.after > hub.cursor:  # another server has shown more than this one has read
            await hub.looked()
        return min(view.after, hub.cursor)
    if view.tail is None:
        return 0
    span = Span(until=hub.cursor, rank=view.rank)
    async with services.database.begin() as tx:
        return await start_of_tail(tx, view.run, span, view.tail)
