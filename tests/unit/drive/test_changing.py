"""What several changes at once leave in the trash: what stood in the tree before them."""

from blake3 import blake3

from tesra.drive.files.changing import Batch
from tesra.storage.editing import TreeEditor, parse_path
from tesra.storage.tree import Entry, File, Folder
from tesra.wire.files import Change, Copy, MakeFolder, Move, Remove, Restore


def a_tree() -> tuple[TreeEditor, bytes]:
    """``/a/x``, ``/a/y`` and ``/b``."""
    nodes: dict[bytes, bytes] = {}

    def store(plain: bytes) -> bytes:
        node = blake3(plain).digest()
        nodes[node] = plain
        return node

    editor = TreeEditor(nodes.__getitem__, store)
    files = {("a", "x"): b"x", ("a", "y"): b"y", ("b",): b"b"}
    entries: dict[tuple[str, ...], Entry | None] = {
        path: File(path[-1], False, len(content), inline=content) for path, content in files.items()
    }
    return editor, editor.edit(editor.empty(), entries)


def thrown_by(*changes: Change) -> list[str]:
    editor, root = a_tree()
    batch = Batch(editor, root, {1: root})
    batch.apply(changes)
    for path in batch.thrown:
        assert editor.lookup(root, path) is not None, "it can't be restored"
    return ["/" + "/".join(path) for path in batch.thrown]


def test_what_is_removed_or_replaced_goes_into_the_trash() -> None:
    assert thrown_by(Remove(path="/a"), Copy(path="/b", to="/c")) == ["/a"]
    assert thrown_by(Move(path="/a/x", to="/b", replace=True)) == ["/b"]


def test_what_was_moved_before_it_was_removed_is_in_the_trash_where_it_stood() -> None:
    assert thrown_by(Move(path="/b", to="/c"), Move(path="/c", to="/d"), Remove(path="/d")) == [
        "/b"
    ]
    assert thrown_by(Move(path="/a", to="/c"), Remove(path="/c/x")) == ["/a/x"]
    assert thrown_by(Move(path="/b", to="/a/b"), Move(path="/a", to="/c"), Remove(path="/c/b")) == [
        "/b"
    ]


def test_what_was_moved_into_a_folder_is_thrown_away_with_it() -> None:
    into = Move(path="/b", to="/n/b")
    assert thrown_by(MakeFolder(path="/n"), into, Remove(path="/n")) == ["/b"]
    assert thrown_by(Move(path="/b", to="/a/b"), Remove(path="/a")) == ["/a", "/b"]


def test_what_was_not_there_before_is_not_in_the_trash() -> None:
    assert thrown_by(Copy(path="/b", to="/c"), Remove(path="/c")) == []
    assert thrown_by(MakeFolder(path="/c"), Remove(path="/c")) == []


def test_a_path_is_in_the_trash_once() -> None:
    again = Restore(path="/b", version=1)
    assert thrown_by(Remove(path="/b"), again, Remove(path="/b")) == ["/b"]


def test_what_is_under_the_name_of_something_moved_is_not_taken_for_it() -> None:
    moved = Move(path="/b", to="/c")
    assert thrown_by(moved, Copy(path="/a/x", to="/b"), Remove(path="/b")) == []
    editor, root = a_tree()
    batch = Batch(editor, root, {})
    changes: list[Change] = [
        Move(path="/a", to="/c"),
        Move(path="/c", to="/d"),
        Copy(path="/b", to="/c"),
        Remove(path="/c"),
    ]
    after = batch.apply(changes)
    assert list(batch.thrown) == []
    assert isinstance(editor.lookup(after, parse_path("/d")), Folder)
