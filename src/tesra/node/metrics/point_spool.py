"""One file of ours for each attempt and node: what its readers have found, until it is delivered.

Beside it stands how far the readers were when it had which size. A round's lines are read by the
pusher only when both are written, so an agent started anew cuts off what nobody has seen and reads
it again: nothing is lost or doubled by its death. (After the machine's own death a torn record
says that the spool is all there is.)

Bounded: at most ``MAX_NAMES`` names, and ``limit_bytes`` on disk; when half of that is used,
points are thinned, more and more. Whatever is left out is said once.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tesra.node.metrics.points import Fact, Parameters, Point, line_of, names_in

MAX_NAMES = 2000
MAX_PARAMETERS = 1000
LIMIT_BYTES = 512 * 2**20
_MOST_WARNINGS = 30
_THINNING = ((0.5, 10), (0.75, 100), (0.9, 1000))  # from this part of the limit on: one point of …

Positions = dict[str, Any]


class PointSpool:
    """``say`` tells the user; ``path`` and its record belong to this spool alone."""

    def __init__(
        self, path: Path, say: Callable[[str], None], *, limit_bytes: int = LIMIT_BYTES
    ) -> None:
        self._path = path
        self._record = path.with_suffix(".read")
        self._say = say
        self._limit = limit_bytes
        self._names: set[str] = set()
        self._parameters: set[tuple[int, str]] = set()
        self._said: set[str] = set()
        self._seen: Counter[str] = Counter()
        self._written = 0
        self._open_to = 0

    @property
    def path(self) -> Path:
        return self._path

    @property
    def size(self) -> int:
        """Up to where it may be delivered."""
        return self._open_to

    def begin(self) -> float:
        """Start anew; answers the file system's time of it, in seconds since the epoch."""
        self._path.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)
        self._path.touch(mode=0o600)
        self.commit({})
        return self._path.stat().st_mtime

    def resume(self) -> Positions | None:
        """Go on with what an earlier agent has left; ``None``: its readers' places are unknown."""
        if not self._path.exists():
            return None
        positions: Positions | None = None
        self._written = self._path.stat().st_size
        try:
            told = json.loads(self._record.read_bytes())
            size, positions = int(told["size"]), dict(told["at"])
        except (OSError, ValueError, KeyError, TypeError):
            size = self._written
        if size < self._written:
            with self._path.open("r+b") as file:
                file.truncate(size)
            self._written = size
        self._open_to = self._written
        with self._path.open("rb") as file:
            self._names = names_in(line for line in file if line.endswith(b"\n"))
        return positions

    def add(self, facts: Iterable[Fact]) -> None:
        """Write them, as far as there is room; they can be delivered after ``commit``."""
        kept = (self._kept(fact) for fact in facts)
        data = b"".join(line_of(fact) for fact in kept if fact is not None)
        if data:
            with self._path.open("ab") as file:
                file.write(data)
            self._written += len(data)

    def commit(self, positions: Positions) -> None:
        """The readers have come this far with what was added."""
        draft = self._record.with_suffix(".new")
        draft.write_text(json.dumps({"size": self._written, "at": positions}))
        draft.rename(self._record)
        self._open_to = self._written

    def warn(self, about: str, text: str) -> None:
        """Tell the user, once for each thing."""
        if about not in self._said and len(self._said) < _MOST_WARNINGS:
            self._said.add(about)
            self._say(f"Metrics: {text}")

    def _kept(self, fact: Fact) -> Fact | None:
        """What of it is written."""
        if self._written >= self._limit:
            self.warn("full", f"{self._limit >> 20} MiB are used up: no more are kept.")
            return None
        match fact:
            case Point():
                known = self._named(fact)
                return known if known is not None and self._its_turn(known) else None
            case Parameters():
                return self._new_parameters(fact)
        return fact

    def _named(self, point: Point) -> Point | None:
        """Without names that are too many."""
        if self._names.issuperset(point.values):
            return point
        values = dict(point.values)
        for name in point.values:
            if name in self._names:
                continue
            if len(self._names) < MAX_NAMES:
                self._names.add(name)
            else:
                del values[name]
                self.warn(
                    "names",
                    f"the run has more than {MAX_NAMES} different names; '{name}' and all"
                    " further new ones are not kept. Put what changes into the step or a value,"
                    " not into the name.",
                )
        return replace(point, values=values) if values else None

    def _its_turn(self, point: Point) -> bool:
        used = self._written / self._limit
        one_of = max((every for part, every in _THINNING if used >= part), default=1)
        if one_of == 1:
            return True
        self.warn(
            "thinned",
            f"the run has written {self._written >> 20} MiB of them: from here on only one point"
            f" of {one_of} is kept, later even fewer. Log every n-th step.",
        )
        name = next(iter(point.values))
        self._seen[name] += 1
        return self._seen[name] % one_of == 0

    def _new_parameters(self, told: Parameters) -> Parameters | None:
        values = dict(told.values)
        for name in told.values:
            if (told.rank, name) in self._parameters:
                continue
            if len(self._parameters) < MAX_PARAMETERS:
                self._parameters.add((told.rank, name))
            else:
                del values[name]
                self.warn(
                    "parameters",
                    f"more than {MAX_PARAMETERS} parameters; '{name}' and further ones are not kept.",
                )
        return replace(told, values=values) if values else None
