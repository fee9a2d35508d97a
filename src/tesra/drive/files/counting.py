"""How much stands in folders, each read once: what a tree's id names never changes."""

from dataclasses import dataclass

from tesra.storage.editing import TreeEditor
from tesra.storage.tree import Entry, File, Folder

_KEPT = 50_000  # folders, of some 200 bytes


@dataclass(frozen=True, slots=True)
class Use:
    """Links count as files without bytes."""

    files: int
    size_bytes: int


class UseCounter:
    """One for all drives: ids of trees are made with the keys of their drive."""

    def __init__(self) -> None:
        self._known: dict[bytes, Use] = {}

    def count(self, editor: TreeEditor, entry: Entry) -> Use:
        """Of an entry and all below it; folders that were counted before are not read."""
        if isinstance(entry, File):
            return Use(1, entry.size)
        if not isinstance(entry, Folder):
            return Use(1, 0)
        known = self._known.get(entry.tree)
        if known is None:
            files = size_bytes = 0
            for below in editor.listing(entry.tree):
                use = self.count(editor, below)
                files, size_bytes = files + use.files, size_bytes + use.size_bytes
            if len(self._known) >= _KEPT:
                self._known.clear()
            known = self._known[entry.tree] = Use(files, size_bytes)
        return known
