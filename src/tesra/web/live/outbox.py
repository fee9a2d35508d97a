"""What one viewer has not been sent yet: bounded, the oldest lines go first, and it is told. Pure.

Lines are dropped exactly: `dropped` stands where they are missing, and says how many and between
which cursors. Of what has a newest state (a run's state, its metrics) only the newest waits.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from tesra.web.live.events import dropped

QUEUE_BYTES = 2**20  # of lines that wait for one viewer
SEND_BYTES = 2**16  # joined for one write


@dataclass(frozen=True, slots=True)
class Event:
    """Encoded once, sent to all. A ``key`` has a newest state; else it is lines behind ``after``.

    ``whole``: what stands for this one and all before it of its key.
    """

    data: bytes
    key: str = ""
    lines: int = 0
    after: int = 0
    until: int = 0
    whole: "Callable[[], Event] | None" = None


@dataclass(slots=True)
class Outbox:
    """In the order in which it came in."""

    limit_bytes: int = QUEUE_BYTES
    lines_dropped: int = 0  # so far, told or not
    _waiting: dict[int | str, Event] = field(default_factory=dict)
    _number: int = 0
    _size: int = 0
    _gap: Event | None = None  # what is missing before the first lines that wait

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, event: Event) -> None:
        """The newest; older lines make room for it."""
        if event.key:
            if self._waiting.pop(event.key, None) is not None and event.whole is not None:
                event = event.whole()
            self._waiting[event.key] = event
            return
        self._number += 1
        self._waiting[self._number] = event
        self._size += len(event.data)
        if self._size > self.limit_bytes:
            self._make_room()

    def take(self, most_bytes: int = SEND_BYTES) -> bytes:
        """What is to be sent next, at least one event; empty when nothing waits."""
        taken: list[bytes] = []
        size = 0
        while self._waiting and size < most_bytes:
            key = next(iter(self._waiting))
            event = self._waiting.pop(key)
            if not event.key:
                self._size -= len(event.data)
                if self._gap is not None:
                    gap, self._gap = self._gap, None
                    taken.append(dropped(gap.lines, gap.after, gap.until))
            taken.append(event.data)
            size += len(event.data)
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def clear(self) -> None:
        """Forget all that waits."""
        self._waiting.clear()
        self._size, self._gap = 0, None

    def _make_room(self) -> None:
        """The newest lines stay, whatever their size."""
        oldest = [number for number in self._waiting if isinstance(number, int)]
        for number in oldest[:-1]:
            if self._size <= self.limit_bytes:
                return
            event = self._waiting.pop(number)
            self._size -= len(event.data)
            self.lines_dropped += event.lines
            lines = event.lines + (self._gap.lines if self._gap else 0)
            after = self._gap.after if self._gap else event.after
            self._gap = Event(b"", lines=lines, after=after, until=event.until)
