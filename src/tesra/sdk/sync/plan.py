"""What a sync has to do: three states of the same paths decide it, without touching any file.

After a plan is carried out both sides hold the same, but for deletions that were not asked for,
and no content that either side had changed is gone: of a path that both changed, both are kept.
"""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import PurePosixPath

from tesra.storage.tree import marked_name

Leaves = Mapping[str, str]  # files and links by their paths, each with the id of its content


@dataclass(frozen=True, slots=True)
class Plan:
    """``renamed``: what is here gets that name first, and goes up under it; then what is there
    comes down. ``left``: gone on one side, and kept on the other."""

    upload: tuple[str, ...] = ()
    download: tuple[str, ...] = ()
    remove_here: tuple[str, ...] = ()
    remove_there: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    left: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        return not (
            self.upload or self.download or self.remove_here or self.remove_there or self.renamed
        )


def plan_sync(base: Leaves, here: Leaves, there: Leaves, *, delete: bool, mark: str) -> Plan:
    """``base``: what both sides had at the last sync. ``mark`` tells conflicting names apart."""
    work = _Work(base, here, there, delete=delete, mark=mark)
    for path in sorted({*here, *there}):
        work.decide(path)
    work.settle_kinds()
    return Plan(
        tuple(sorted(work.upload)),
        tuple(sorted(work.download)),
        tuple(sorted(work.remove_here)),
        tuple(sorted(work.remove_there)),
        tuple(sorted(work.renamed.items())),
        tuple(sorted(work.left)),
    )


class _Work:
    def __init__(
        self, base: Leaves, here: Leaves, there: Leaves, *, delete: bool, mark: str
    ) -> None:
        self._base, self._here, self._there = base, here, there
        self._folders_here = {above for path in here for above in _above(path)}
        self._folders_there = {above for path in there for above in _above(path)}
        self._delete = delete
        self._mark = mark
        self._taken = {*here, *there, *self._folders_here, *self._folders_there}
        self.upload: set[str] = set()
        self.download: set[str] = set()
        self.remove_here: set[str] = set()
        self.remove_there: set[str] = set()
        self.renamed: dict[str, str] = {}
        self.left: set[str] = set()

    def decide(self, path: str) -> None:
        base, here, there = self._base.get(path), self._here.get(path), self._there.get(path)
        if here == there:
            return
        if here == base or (here is not None and there == base):
            self._carry(path, from_there=here == base)
        elif here is None and there == base:
            self._carry(path, from_there=False)
        elif here is None:
            self.download.add(path)
        elif there is None:
            self.upload.add(path)
        else:
            self._rename(path, self._beside(path))
            self.download.add(path)

    def settle_kinds(self) -> None:
        """Where a file is to be on one side and a folder on the other, ours gets another name."""
        here = {path for path in self._here if path not in self.remove_here | {*self.renamed}}
        there = {path for path in self._there if path not in self.remove_there}
        folders_here = {above for path in here for above in _above(path)}
        folders_there = {above for path in there for above in _above(path)}
        for path in sorted(here & folders_there - there):
            self._rename(path, self._beside(path))
        for folder in sorted(there & folders_here - here):
            beside = self._beside(folder)
            for path in sorted(here):
                if path.startswith(f"{folder}/"):
                    self._rename(path, beside + path[len(folder) :])

    def _carry(self, path: str, *, from_there: bool) -> None:
        """The side that did not change it follows the other one."""
        changed = self._there if from_there else self._here
        if path in changed:
            (self.download if from_there else self.upload).add(path)
        elif self._delete or self._replaced(path, changed, from_there=from_there):
            (self.remove_here if from_there else self.remove_there).add(path)
        else:
            self.left.add(path)

    def _replaced(self, path: str, changed: Leaves, *, from_there: bool) -> bool:
        """Whether a file became a folder, or a folder a file: that is a change, no deletion."""
        folders = self._folders_there if from_there else self._folders_here
        return path in folders or any(above in changed for above in _above(path))

    def _rename(self, path: str, beside: str) -> None:
        self.upload.discard(path)
        self.left.discard(path)
        self.renamed[path] = beside

    def _beside(self, path: str) -> str:
        at = PurePosixPath(path)
        for number in range(1, 10_000):
            more = f" {number}" if number > 1 else ""
            name = marked_name(at.name, f"conflict {self._mark}{more}")
            beside = str(at.with_name(name))
            if beside not in self._taken:
                self._taken.add(beside)
                return beside
        raise AssertionError("ten thousand conflicts of one file on one day")


def uppermost(gone: Set[str], kept: Set[str]) -> list[str]:
    """The folders, as high as can be, that hold nothing but what is gone; and single files."""
    needed = {above for path in kept for above in _above(path)}
    found: set[str] = set()
    for path in gone:
        above = [folder for folder in reversed(list(_above(path))) if folder not in needed]
        found.add(above[0] if above else path)
    return sorted(found)


def _above(path: str) -> Iterator[str]:
    """The folders that a path lies in, the nearest first."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
