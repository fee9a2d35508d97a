"""What a drive has to hold, as a plain table: path → content, ``None`` for a folder."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

Table = Mapping[str, bytes | None]


def above(path: str) -> Iterator[str]:
    """The folders that a path lies in, the topmost first."""
    parts = path.split("/")[1:-1]
    for count in range(1, len(parts) + 1):
        yield "/" + "/".join(parts[:count])


def at_and_below(table: Mapping[str, object], path: str) -> list[str]:
    return [one for one in sorted(table) if one == path or one.startswith(f"{path}/")]


def subtree(table: Table, path: str) -> Table:
    """What stands at the path, by its paths from there."""
    return {one[len(path) :]: table[one] for one in at_and_below(table, path)}


@dataclass(slots=True)
class _Held:
    """``origin``: where it stood before the draft was begun."""

    content: bytes | None
    origin: str | None


@dataclass(slots=True)
class Draft:
    """A table that is being changed. ``thrown``: what goes into the trash, by its paths before."""

    before: Table
    thrown: set[str] = field(default_factory=set)
    _held: dict[str, _Held] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._held = {path: _Held(content, path) for path, content in self.before.items()}

    @property
    def table(self) -> Table:
        return {path: held.content for path, held in self._held.items()}

    def put(self, path: str, held: Table) -> None:
        """Something new, or a new content of a file; the folders above are made."""
        self._make_above(path)
        for rest, content in held.items():
            known = self._held.get(path + rest)
            self._held[path + rest] = _Held(content, known.origin if known else None)

    def remove(self, path: str) -> None:
        for one in at_and_below(self._held, path):
            origin, name = self._held[one].origin, one.rpartition("/")[2]
            parent = self._held.get(one.rpartition("/")[0]) if one != path else None
            if origin and not (parent and f"{parent.origin}/{name}" == origin):
                self.thrown.add(origin)
        for one in at_and_below(self._held, path):
            del self._held[one]

    def move(self, path: str, to: str) -> None:
        if to in self._held:
            self.remove(to)
        self._make_above(to)
        for one in at_and_below(self._held, path):
            self._held[to + one[len(path) :]] = self._held.pop(one)

    def copy(self, path: str, to: str) -> None:
        if to in self._held:
            self.remove(to)
        self.put(to, subtree(self.table, path))

    def _make_above(self, path: str) -> None:
        for folder in above(path):
            self._held.setdefault(folder, _Held(None, None))
