"""What is named anew in a tree since another one, in batches; equal folders and nodes are not read."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tesra.drive.search.repository import Named
from tesra.storage.editing import Parts, TreeEditor, show_path
from tesra.storage.tree import Entry, File, Folder, Link

_BATCH = 2000


@dataclass(slots=True)
class Batch:
    """Paths where nothing stands any more, folders with all below them, and what stands there."""

    gone: list[str] = field(default_factory=list)
    gone_below: list[str] = field(default_factory=list)
    there: list[Named] = field(default_factory=list)

    @property
    def full(self) -> bool:
        return len(self.gone) + len(self.there) >= _BATCH


def named_since(editor: TreeEditor, old: bytes, new: bytes) -> Iterator[Batch]:
    """All differences of names and sizes; in each batch what is gone comes first."""
    batch = Batch()
    for path, before, after in _changes(editor, old, new, ()):
        shown = show_path(path)
        if isinstance(before, Folder) and not isinstance(after, Folder):
            batch.gone_below.append(shown)
        if after is None:
            batch.gone.append(shown)
        else:
            batch.there.append(_named(shown, after))
        if batch.full:
            yield batch
            batch = Batch()
    yield batch


def _changes(
    editor: TreeEditor, old: bytes | None, new: bytes, above: Parts
) -> Iterator[tuple[Parts, Entry | None, Entry | None]]:
    if old == new:
        return
    if old is None:
        for entry in editor.listing(new):
            yield from _change(editor, None, entry, above)
        return
    before, after = editor.differing(old, new)
    known = {entry.name: entry for entry in before}
    for entry in after:
        yield from _change(editor, known.pop(entry.name, None), entry, above)
    for name, entry in known.items():
        yield (*above, name), entry, None


def _change(
    editor: TreeEditor, before: Entry | None, after: Entry, above: Parts
) -> Iterator[tuple[Parts, Entry | None, Entry | None]]:
    if before == after:
        return
    path = (*above, after.name)
    if not (isinstance(before, Folder) and isinstance(after, Folder)):
        yield path, before, after
    if isinstance(after, Folder):
        old = before.tree if isinstance(before, Folder) else None
        yield from _changes(editor, old, after.tree, path)


def _named(path: str, entry: Entry) -> Named:
    match entry:
        case File():
            return Named(path, entry.name, "file", entry.size)
        case Folder():
            return Named(path, entry.name, "dir", 0)
        case Link():
            return Named(path, entry.name, "link", 0)
