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
    return _Scan(os.path.realpath(root), warn).folder("", 0)


def listed(root: Path, files: Iterable[Path], warn: Warn = unheard) -> Iterator[Node]:
    """These paths of the folder and the folders above them; a folder named itself comes empty."""
    choice: _Choice = {}
    base = Path(os.path.abspath(root))
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
    return _Scan(os.path.realpath(base), warn).chosen(choice, "", 0)


_Choice = dict[str, "_Choice"]


class _Scan:
    def __init__(self, root: str, warn: Warn) -> None:
        self._root = root
        self._warn = warn

    def folder(self, relative: str, depth: int) -> Iterator[Node]:
        with os.scandir(os.path.join(self._root, relative)) as found:
            names = [entry.name for entry in found]
        for name in sorted(names, key=os.fsencode):
            yield from self._node(relative, name, depth, self.folder)

    def chosen(self, choice: _Choice, relative: str, depth: int) -> Iterator[Node]:
        def below(path: str, level: int) -> Iterator[Node]:
            return self.chosen(choice[os.path.basename(path)], path, level)

        for name in sorted(choice, key=os.fsencode):
            yield from self._node(relative, name, depth, below)

    def _node(
        self, relative: str, name: str, depth: int, below: Callable[[str, int], Iterator[Node]]
    ) -> Iterator[Node]:
        shown = os.path.join(relative, name)
        path = os.path.join(self._root, shown)
        mode = os.lstat(path).st_mode
        if stat.S_ISREG(mode):
            yield Node(name, path, "file")
        elif stat.S_ISDIR(mode):
            yield Node(name, path, "dir", children=lambda: below(shown, depth + 1))
        elif stat.S_ISLNK(mode):
            yield from self._link(name, path, shown, depth)
        else:
            self._warn(f"'{shown}' is neither file, folder nor link: left out")

    def _link(self, name: str, path: str, shown: str, depth: int) -> Iterator[Node]:
        target = os.readlink(path)
        if not link_stays_inside(depth, target):
            real = os.path.realpath(path)
            if os.path.commonpath([real, self._root]) != self._root:
                self._warn(f"the link '{shown}' leads out of the folder: left out")
                return
            target = os.path.relpath(real, os.path.dirname(path))
        yield Node(name, path, "link", target=target)
