"""One round over everything that a run's ranks have written: bounded, in a thread, no waiting.

Sources in order of trust; what a better one has named, the lines of a log do not name again.
Nothing that a script writes can make a round fail, or longer than its limits.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from tesra.node.metrics.event_files import EventFiles
from tesra.node.metrics.log_lines import LineReader
from tesra.node.metrics.point_spool import MAX_NAMES, PointSpool, Positions
from tesra.node.metrics.points import Fact, Point
from tesra.node.metrics.script_file import read_line
from tesra.node.metrics.tail import Lines, Tail
from tesra.node.workspace import AttemptFolders

ROUND_BYTES = 2**20  # of one file in one round
LOG_ROUND_BYTES = 2**18
LOG_ROUND_LINES = 500
LAST_SWEEP_S = 20.0  # for what is left when the gang has ended
_SCRIPT_LINE = 2**20
_LOG_LINE = 2**14


class Source(Protocol):
    """One kind of thing that is read; ``left``: the last round did not read it all."""

    left: bool

    def read(self, now: float, last: bool) -> Iterable[Fact]: ...

    def position(self) -> Any:
        """Where the next agent would go on, as JSON has it."""
        ...

    def go_on(self, position: Any) -> None: ...


class ScriptFiles:
    """``tesra.log`` of each rank."""

    def __init__(self, folders: AttemptFolders, ranks: Sequence[int], spool: PointSpool) -> None:
        self._spool = spool
        self._tails = {
            rank: Tail(folders.root, str(folders.metrics_of(rank).relative_to(folders.root)))
            for rank in ranks
        }
        self._lines = {rank: Lines(_SCRIPT_LINE) for rank in ranks}
        self.left = False

    def read(self, now: float, last: bool) -> Iterator[Fact]:
        self.left = False
        for rank, tail in self._tails.items():
            lines = self._lines[rank]
            data = tail.read(ROUND_BYTES)
            self.left |= tail.left
            if tail.anew:
                lines.forget()
            whole = lines.cut(data) if data else []
            if last and not tail.left:
                whole += lines.last()
            for line in whole:
                points = read_line(line, rank, now)
                if points is not None:
                    yield from points
                elif line:
                    self._complain(rank)
            if lines.overlong:
                self._complain(rank)

    def position(self) -> Any:
        return {
            str(rank): [tail.offset - self._lines[rank].waiting, tail.inode]
            for rank, tail in self._tails.items()
        }

    def go_on(self, position: Any) -> None:
        for rank, tail in self._tails.items():
            tail.offset, tail.inode = position.get(str(rank), (0, 0))

    def _complain(self, rank: int) -> None:
        self._spool.warn(
            f"lines of {rank}",
            f"lines in TESRA_METRICS_FILE of rank {rank} that tesra.log did not write are skipped.",
        )


class LogFiles:
    """Lines such as ``epoch 3 loss 0.12`` in each rank's own log.

    A log that grows faster than it is read is not caught up with: its newest part is read.
    """

    def __init__(self, folders: AttemptFolders, ranks: Sequence[int], spool: PointSpool) -> None:
        self._spool = spool
        self._tails = {
            rank: Tail(folders.root, str(folders.log_of(rank).relative_to(folders.root)))
            for rank in ranks
        }
        self._lines = {rank: Lines(_LOG_LINE) for rank in ranks}
        self._readers = {rank: LineReader(rank) for rank in ranks}
        self.left = False

    def read(self, now: float, last: bool) -> Iterator[Fact]:
        for rank, tail in self._tails.items():
            for line in self._new_lines(rank, tail, last):
                text = line.rpartition(b"\r")[2] or line
                point = self._readers[rank].read(text.decode("utf-8", errors="replace"), now)
                if point is not None:
                    yield point

    def position(self) -> Any:
        return {
            str(rank): [tail.offset - self._lines[rank].waiting, tail.inode]
            for rank, tail in self._tails.items()
        }

    def go_on(self, position: Any) -> None:
        for rank, tail in self._tails.items():
            tail.offset, tail.inode = position.get(str(rank), (0, 0))

    def _new_lines(self, rank: int, tail: Tail, last: bool) -> list[bytes]:
        lines = self._lines[rank]
        data = tail.read(LOG_ROUND_BYTES, newest=True)
        if tail.anew or tail.skipped:
            lines.forget(inside=tail.skipped)
        whole = lines.cut(data) if data else []
        if last:
            whole += lines.last()
        elif data and (moving := lines.moving()):
            whole.append(moving)
        if tail.skipped or len(whole) > LOG_ROUND_LINES:
            self._spool.warn(
                "lines",
                f"the log of rank {rank} grows faster than it is read for them, so lines are left"
                " out. tesra.log({...}) misses nothing.",
            )
        return whole[-LOG_ROUND_LINES:]


class Collector:
    """All sources of one attempt on one node; use it from one thread at a time."""

    def __init__(
        self,
        folders: AttemptFolders,
        ranks: Sequence[int],
        spool: PointSpool,
        *,
        since: float = 0.0,
        pids: Mapping[int, int] | None = None,
        more: Mapping[str, Source] | None = None,
    ) -> None:
        """``since``: the file system's time before the start; ``pids``: the ranks' processes."""
        self._spool = spool
        self._sources: dict[str, Source] = {
            "script": ScriptFiles(folders, ranks, spool),
            "events": EventFiles(
                folders, ranks, spool, since=since, pids={} if pids is None else pids
            ),
            **(more or {}),
            "logs": LogFiles(folders, ranks, spool),
        }
        self._given: dict[int, set[str]] = {rank: set() for rank in ranks}

    def go_on(self, positions: Positions) -> None:
        """Where an earlier agent has stopped reading."""
        for name, source in self._sources.items():
            source.go_on(positions.get(name, {}))

    def round(self, *, last: bool = False) -> bool:
        """Read what is new into the spool; whether more is left. ``last``: nothing more will come."""
        now = time.time()
        facts: list[Fact] = []
        for source in self._sources.values():
            facts.extend(self._unless_given(source.read(now, last)))
        self._spool.add(facts)
        if facts or last:
            self._spool.commit({name: known.position() for name, known in self._sources.items()})
        return any(source.left for source in self._sources.values())

    def last_sweep(self) -> None:
        """Read all that is left, as far as time allows."""
        until = time.monotonic() + LAST_SWEEP_S
        while self.round(last=True):
            if time.monotonic() > until:
                self._spool.warn(
                    "end",
                    f"what the run wrote last was not read within {LAST_SWEEP_S:.0f} s: some of"
                    " them are missing.",
                )
                return

    def _unless_given(self, facts: Iterable[Fact]) -> Iterator[Fact]:
        """Without what lines tell of a name that a better source has."""
        for fact in facts:
            if not isinstance(fact, Point):
                yield fact
                continue
            given = self._given.setdefault(fact.rank, set())
            if fact.origin != "lines":
                if len(given) < 2 * MAX_NAMES and not given.issuperset(fact.values):
                    given.update(plain(name) for name in fact.values)
                yield fact
            elif not given:
                yield fact
            elif values := {n: v for n, v in fact.values.items() if plain(n) not in given}:
                yield replace(fact, values=values)


def plain(name: str) -> str:
    """By which two spellings of a name are one: ``train/loss`` and ``train_loss``."""
    return name.lower().replace("/", "_")
