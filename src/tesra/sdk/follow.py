"""A log is followed to its end: no line is lost and none comes twice, whatever the connection does.

Every chunk carries the cursor behind it; after a break the stream is opened again behind the last
whole chunk. A half-sent chunk was never shown, so it is simply sent again.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from tesra.kit.errors import Unavailable
from tesra.wire.metrics import MetricNews
from tesra.wire.training import LogChunk

Chunk = TypeVar("Chunk", LogChunk, MetricNews)

OpenLog = Callable[[str | None], AbstractContextManager[Iterable[bytes]]]

TERMINAL_STATES = frozenset({"succeeded", "failed", "stopped"})
PATIENCE_S = 600.0  # as long as a run's lease: after that the run itself would start over
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0


class StreamBroken(Unavailable):
    """The connection broke in the middle of a log."""


class Silence(Unavailable):
    """The run said nothing for a while: the connection may be dead, or the script just works."""


class LogNotUnderstood(Unavailable):
    """The log's format is not one that this client understands."""


@dataclass(frozen=True, slots=True)
class Reconnection:
    """How a lost connection is taken up again; ``on_gap`` hears the reason, once for each gap."""

    patience_s: float = PATIENCE_S
    on_gap: Callable[[Unavailable], None] = lambda _: None
    pause: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic


def follow_log(
    open_log: OpenLog, *, live: bool, after: str | None = None, again: Reconnection | None = None
) -> Iterator[LogChunk]:
    """All chunks of a log behind ``after``; see ``follow_stream``."""
    return follow_stream(open_log, LogChunk, live=live, after=after, again=again)


def follow_stream(
    open_log: OpenLog,
    kind: type[Chunk],
    *,
    live: bool,
    after: str | None = None,
    again: Reconnection | None = None,
) -> Iterator[Chunk]:
    """All chunks behind ``after``. A live stream ends with a terminal state, another with its end.

    Raises the last ``Unavailable`` when nothing was heard for ``patience_s``.
    """
    again = again or Reconnection()
    cursor, ended = after, False
    gap: Gap | None = None
    while not ended:
        trouble: Unavailable | None = None
        try:
            with open_log(cursor) as blocks:
                for chunk in _chunks(blocks, kind):
                    gap, cursor = None, str(chunk.cursor)
                    ended = ended or chunk.state in TERMINAL_STATES
                    yield chunk
            ended = ended or not live
        except LogNotUnderstood:
            raise
        except Silence:
            pass  # open it again, without alarming anybody
        except Unavailable as error:
            trouble = error
        if not ended:
            gap = gap or Gap(again)
            gap.wait(trouble)


class Gap:
    """The time between a lost connection and the next chunk."""

    def __init__(self, again: Reconnection) -> None:
        self._again = again
        self._began = again.monotonic()
        self._pause_s = FIRST_PAUSE_S
        self._told = False

    def wait(self, trouble: Unavailable | None) -> None:
        """Pause, longer each time; raise the trouble when patience is at its end."""
        if self._again.monotonic() - self._began >= self._again.patience_s:
            raise trouble or StreamBroken("The log ended before the run did.")
        if trouble is not None and not self._told:
            self._again.on_gap(trouble)
            self._told = True
        self._again.pause(self._pause_s)
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)


def _chunks(blocks: Iterable[bytes], kind: type[Chunk]) -> Iterator[Chunk]:
    for line in lines_of(blocks):
        if not line.strip():
            continue  # a sign of life
        try:
            yield kind.model_validate_json(line)
        except ValidationError as error:
            if any(found["type"] == "json_invalid" for found in error.errors()):
                raise StreamBroken from error  # cut off in the middle of a chunk
            raise LogNotUnderstood(way_out="Are client and server of the same version?") from error


def lines_of(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines split at ``\\n`` alone (text may hold any other separator), in linear time."""
    parts: list[bytes] = []
    for block in blocks:
        head, *rest = block.split(b"\n")
        parts.append(head)
        for tail in rest:
            yield b"".join(parts)
            parts = [tail]
    if any(parts):
        yield b"".join(parts)
