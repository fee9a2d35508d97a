"""Several changes of a tree at once. Pure over an editor: what they need is read and stored by it.

What goes into the trash is what stood in the tree before: it comes back from there, whatever the
same changes had done to it first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

from tesra.kit.errors import Conflict, Invalid
from tesra.storage.editing import Parts, TreeEditor, parse_path, show_path
from tesra.storage.tree import Folder, content_id
from tesra.wire.files import (
    Change,
    Copy,
    Expect,
    MakeFolder,
    Move,
    PutTree,
    Remove,
    Restore,
)


class SomethingThere(Conflict):
    """There is something at this path already."""


class ChangedMeanwhile(Conflict):
    """Something else stands at this path by now."""


class NotOneFile(Invalid):
    """The tree that was put as a single file does not hold just one."""


class NameMissing(Invalid):
    """A file needs a name: this is the root."""


class Batch:
    """One after the other on what the one before has made; made for one attempt."""

    def __init__(self, editor: TreeEditor, root: bytes, earlier: Mapping[int, bytes]) -> None:
        """``earlier``: the roots of the versions that are restored from."""
        self._editor = editor
        self._before = root
        self._earlier = earlier
        self._from: dict[Parts, Parts | None] = {}  # what stands here by now stood there before
        self._thrown: dict[Parts, None] = {}
        self._beside: list[tuple[Parts, Parts]] = []

    @property
    def beside(self) -> Sequence[tuple[Parts, Parts]]:
        """What was restored, and where it stands since something else stands at its place."""
        return self._beside

    @property
    def thrown(self) -> Sequence[Parts]:
        """What goes into the trash, by its paths before the changes."""
        return list(self._thrown)

    def apply(self, changes: Sequence[Change]) -> bytes:
        """The root after all of them; raises what the first that is not possible raises."""
        root = self._before
        for change in changes:
            root = self._changed(root, change)
        return root

    def _changed(self, root: bytes, change: Change) -> bytes:
        editor, path = self._editor, parse_path(change.path)
        match change:
            case Expect(content=content):
                found = editor.lookup(root, path)
                if (content_id(found).hex() if found else None) != content:
                    raise ChangedMeanwhile(way_out="Look at it again, then repeat.")
                return root
            case MakeFolder():
                return editor.make_folder(root, path)
            case PutTree():
                return _put(editor, root, path, change)
            case Remove():
                editor.require(root, path)
                self._throw(path)
                self._vacate(path)
                return editor.remove(root, path)
            case Restore(version=version, to=to):
                entry = editor.require(self._earlier[version], path)
                wanted = parse_path(to) if to else path
                root, place = editor.graft(root, wanted, entry)
                self._beside += [(wanted, place)] if place != wanted else []
                return root
            case Move() | Copy():
                return self._carried(root, path, change)

    def _carried(self, root: bytes, path: Parts, change: Move | Copy) -> bytes:
        editor, target = self._editor, parse_path(change.to)
        if path != target and editor.lookup(root, target) is not None:
            if not change.replace:
                raise SomethingThere(
                    f"There is something at '{show_path(target)}' already.",
                    way_out="Choose another name, or replace it (`--force`).",
                )
            self._throw(target)
            self._vacate(target)
        if isinstance(change, Copy):
            return editor.copy(root, path, target)
        moved = editor.move(root, path, target)
        if path != target:
            self._follow(path, target)
        return moved

    def _vacate(self, path: Parts) -> None:
        """What will stand here, if anything, is new."""
        for at in self._inside(path):
            del self._from[at]
        self._from[path] = None

    def _follow(self, source: Parts, target: Parts) -> None:
        """What was moved stands at the target by now, with what was moved into it before."""
        came_from = {at[len(source) :]: self._from[at] for at in self._inside(source)}
        came_from[()] = self._origin(source)
        self._vacate(source)
        self._from |= {(*target, *rest): was for rest, was in came_from.items()}

    def _origin(self, path: Parts) -> Parts | None:
        for size in range(len(path), 0, -1):
            if path[:size] in self._from:
                was = self._from[path[:size]]
                return (*was, *path[size:]) if was is not None else None
        return path

    def _throw(self, path: Parts) -> None:
        """With what was moved into it; what was not there before is left out: no version has it."""
        for before in (self._origin(path), *(self._from[at] for at in self._inside(path))):
            if before is not None and self._editor.lookup(self._before, before) is not None:
                self._thrown[before] = None

    def _inside(self, path: Parts) -> list[Parts]:
        return [at for at in self._from if at[: len(path)] == path]


def _put(editor: TreeEditor, root: bytes, path: Parts, change: PutTree) -> bytes:
    tree = bytes.fromhex(change.tree.root)
    if change.single:
        entries = list(islice(editor.listing(tree), 2))
        if len(entries) != 1:
            raise NotOneFile
        if not path:
            raise NameMissing
        return editor.edit(root, {path: replace(entries[0], name=path[-1])})
    found = editor.lookup(root, path)
    if change.merge and isinstance(found, Folder):
        return editor.overlay(root, path, tree)
    return tree if not path else editor.edit(root, {path: Folder(path[-1], tree)})


def words_of(changes: Sequence[Change]) -> str:
    """What the drive's history says of them."""
    said = [_words(change) for change in changes if not isinstance(change, Expect)]
    return "; ".join(said[:3])[:200]


def _words(change: Change) -> str:
    match change:
        case Expect(path=path):
            return f"expected {path}"
        case PutTree(path=path):
            return f"put {path}"
        case MakeFolder(path=path):
            return f"made {path}"
        case Remove(path=path):
            return f"removed {path}"
        case Move(path=path, to=to):
            return f"moved {path} to {to}"
        case Copy(path=path, to=to):
            return f"copied {path} to {to}"
        case Restore(path=path, version=version):
            return f"restored {path} of version {version}"
