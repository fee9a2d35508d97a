"""Folders are counted once, whatever changes beside them."""

from tesra.drive.files.counting import Use, UseCounter
from tesra.storage.assembling import inline_file
from tesra.storage.editing import TreeEditor
from tesra.storage.tree import Folder, Link


def test_only_folders_that_changed_are_read_again() -> None:
    nodes: dict[bytes, bytes] = {}
    read: list[bytes] = []

    def reading(node: bytes) -> bytes:
        read.append(node)
        return nodes[node]

    def storing(plain: bytes) -> bytes:
        node = len(nodes).to_bytes(32)
        nodes[node] = plain
        return node

    def editor() -> TreeEditor:
        return TreeEditor(reading, storing)

    changes = {
        (f"d{folder}", f"f{file}"): inline_file(f"f{file}", b"x" * 5, executable=False)
        for folder in range(20)
        for file in range(3)
    }
    root = editor().edit(editor().empty(), {**changes, ("link",): Link("link", "d0")})
    counter = UseCounter()
    assert counter.count(editor(), Folder("", root)) == Use(61, 300)
    changed = editor().edit(root, {("d7", "more"): inline_file("more", b"y" * 7, executable=False)})
    read.clear()
    assert counter.count(editor(), Folder("", changed)) == Use(62, 307)
    assert len(read) == 2
    read.clear()
    assert counter.count(editor(), Folder("", root)) == Use(61, 300)
    assert read == []
