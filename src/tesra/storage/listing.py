"""What there is to upload: a folder as it lies on disk, or a choice of its paths.

Nothing is followed: a link is kept as a link when it stays inside, rewritten when it merely looks
as if it left, and otherwise left out with a warning, as are sockets, pipes and devices.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tesra.kit.errors import Invalid
from tesra.storage.tree import link_stays_inside

Warn = Callable[[str], None]


class PathOutside(Invalid):
    """A path to upload lies outside of the folder."""


@dataclass(frozen=True, slots=True)
class Node:
    """One entry of a folder; ``children`` lists a folder's when it is their turn."""

    name: str
    path: str
    kind: Literal["file", "dir", "link"]
    target: str = ""
    children: Callable[[], Iterator["Node"]] = lambda: iter(())


def unheard(_: str) -> None:
    """For callers that show no warnings."""


def scanned(root: Path, warn: Warn = unheard) -> Iterator[Node]:
    """Everything in the folder, sorted by the bytes of the names, one folder at a time."""
    return _Scan(root.resolve(), warn).folder(root.resolve(), 0)


def listed(root: Path, files: Iterable[Path], warn: Warn = unheard) -> Iterator[Node]:
    """These paths of the folder and the folders above them; a folder named itself comes empty.

    They are given as lying in ``root``, or below it as ``root`` is written (``../data/a.txt``).
    """
    choice: _Choice = {}
    base = root.absolute()
    for path in files:
        try:
            parts = (base / path).relative_to(base).parts
        except ValueError as error:
            raise PathOutside(f"'{path}' lies outside of '{root}'.") from error
        if ".." in parts:
            raise PathOutside(f"'{path}' lies outside of '{root}'.")
        below = choice
        for part in parts:
            below = below.setdefault(part, {})
    return _Scan(root.resolve(), warn).chosen(choice, root.resolve(), 0)


_Choice = dict[str, "_Choice"]


class _Scan:
    def __init__(self, root: Path, warn: Warn) -> None:
        self._root = root
        self._warn = warn

    def folder(self, folder: Path, depth: int) -> Iterator[Node]:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
        for entry in entries:
            if entry.is_file(follow_symlinks=False):  # the folder says so itself, mostly
                yield Node(entry.name, entry.path, "file")
            else:
                yield from self._node(Path(entry.path), depth, self.folder)

    def chosen(self, choice: _Choice, folder: Path, depth: int) -> Iterator[Node]:
        def below(path: Path, level: int) -> Iterator[Node]:
            return self.chosen(choice[path.name], path, level)

        for name in sorted(choice, key=os.fsencode):
            yield from self._node(folder / name, depth, below)

    def _node(
        self, path: Path, depth: int, below: Callable[[Path, int], Iterator[Node]]
    ) -> Iterator[Node]:
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            yield Node(path.name, str(path), "file")
        elif stat.S_ISDIR(mode):
            yield Node(path.name, str(path), "dir", children=lambda: below(path, depth + 1))
        elif stat.S_ISLNK(mode):
            yield from self._link(path, depth)
        else:
            self._warn(f"'{self._shown(path)}' is neither file, folder nor link: left out")

    def _link(self, path: Path, depth: int) -> Iterator[Node]:
        target = str(path.readlink())
        if not link_stays_inside(depth, target):
            real = os.path.realpath(path)
            if not Path(real).is_relative_to(self._root):
                self._warn(f"the link '{self._shown(path)}' leads out of the folder: left out")
                return
            target = os.path.relpath(real, path.parent)
        yield Node(path.name, str(path), "link", target=target)

    def _shown(self, path: Path) -> str:
        return str(path.relative_to(self._root))
