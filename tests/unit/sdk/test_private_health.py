"""What the files of a private drive need, also where a listing can't be read now."""

from collections.abc import Iterable, Iterator
from typing import cast

import pytest

from tesra.kit.errors import Conflict
from tesra.sdk.private.chunks import SealedReader
from tesra.sdk.private.health import needs
from tesra.storage.editing import TreeEditor
from tesra.storage.tree import File


class PackLocked(Conflict):
    """As the server says it."""


class Broken(Conflict):
    """Another refusal."""


class Shelf:
    """Nodes in memory; some are refused."""

    def __init__(self) -> None:
        self.nodes: dict[bytes, bytes] = {}
        self.refused: dict[bytes, Conflict] = {}

    def keep(self, plain: bytes) -> bytes:
        node_id = len(self.nodes).to_bytes(32)
        self.nodes[node_id] = plain
        return node_id

    def portions(self, ids: Iterable[bytes]) -> Iterator[list[bytes]]:
        yield list(ids)

    def read(self, ids: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
        for node_id in ids:
            yield node_id, self.one(node_id)

    def one(self, node_id: bytes) -> bytes:
        if node_id in self.refused:
            raise self.refused[node_id]
        return self.nodes[node_id]


def _filled(shelf: Shelf) -> tuple[bytes, bytes]:
    """A root, and the tree of its folder ``b``."""
    editor = TreeEditor(shelf.one, shelf.keep)
    files = {
        ("a",): File("a", False, 5, chunks=(b"\x0a" * 32,)),
        ("b", "c"): File("c", False, 5, chunks=(b"\x0c" * 32,)),
        ("d",): File("d", False, 1, inline=b"1"),
    }
    root = editor.empty()
    for path, file in files.items():
        root = editor.edit(root, {path: file})
    return root, editor.require(root, ("b",)).tree  # type: ignore[union-attr]


def test_a_file_needs_its_chunks_and_its_folders_listing() -> None:
    shelf = Shelf()
    root, below = _filled(shelf)
    found = needs(cast(SealedReader, shelf), (), root)
    assert [(one.path, one.chunks) for one in found] == [
        (("a",), {root, b"\x0a" * 32}),
        (("b", "c"), {below, b"\x0c" * 32}),
        (("d",), {root}),
    ]
    (alone,) = needs(cast(SealedReader, shelf), (), root, only="d")
    assert alone.path == ("d",)


def test_a_folder_that_cannot_be_read_stands_for_what_is_in_it() -> None:
    shelf = Shelf()
    root, below = _filled(shelf)
    shelf.refused[below] = PackLocked()
    found = needs(cast(SealedReader, shelf), (), root)
    assert [(one.path, one.chunks) for one in found][1] == (("b",), {below})


def test_any_other_refusal_is_raised() -> None:
    shelf = Shelf()
    root, below = _filled(shelf)
    shelf.refused[below] = Broken()
    with pytest.raises(Broken):
        needs(cast(SealedReader, shelf), (), root)
