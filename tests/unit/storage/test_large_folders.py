"""Pages of a large folder: few nodes are read, few entries decoded, broken ones refused."""

import msgpack
import pytest
from blake3 import blake3

from tesra.storage import editing
from tesra.storage.editing import TreeEditor
from tesra.storage.tree import File, NameRefused, NodeList, TreeBroken, read_node

FILES = 30_000


class Nodes:
    def __init__(self) -> None:
        self.held: dict[bytes, bytes] = {}
        self.reads = 0

    def read(self, node: bytes) -> bytes:
        self.reads += 1
        return self.held[node]

    def store(self, plain: bytes) -> bytes:
        node = blake3(plain).digest()
        self.held[node] = plain
        return node


def name(number: int) -> str:
    return f"{number:06} 名"


@pytest.fixture(scope="module")
def large() -> tuple[Nodes, bytes]:
    nodes = Nodes()
    editor = TreeEditor(nodes.read, nodes.store)
    content = bytes(60)
    files = {(name(n),): File(name(n), False, 60, inline=content) for n in range(FILES)}
    return nodes, editor.edit(editor.empty(), files)


def test_a_page_from_anywhere_is_what_a_walk_gives(large: tuple[Nodes, bytes]) -> None:
    nodes, root = large
    assert isinstance(read_node(nodes.held[root]), NodeList)
    everything = [entry.name for entry in TreeEditor(nodes.read, nodes.store).listing(root)]
    assert everything == [name(n) for n in range(FILES)]
    for n in (0, 1, 12_345, FILES - 2, FILES - 1):
        editor = TreeEditor(nodes.read, nodes.store)
        assert [e.name for e in editor.listing(root, after=name(n))] == everything[n + 1 :]
        assert editor.lookup(root, (name(n),)) == File(name(n), False, 60, inline=bytes(60))
        assert editor.lookup(root, (name(n) + "x",)) is None


def test_what_is_known_of_nodes_is_shared_and_only_what_is_shown_is_decoded(
    large: tuple[Nodes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes, root = large
    decoded = []
    real = editing.read_entry
    monkeypatch.setattr(editing, "read_entry", lambda item: decoded.append(1) or real(item))
    ends: dict[bytes, bytes] = {}

    def page(after: str) -> int:
        nodes.reads = 0
        listing = TreeEditor(nodes.read, nodes.store, ends=ends).listing(root, after=after)
        assert len([next(listing) for _ in range(10)]) == 10
        return nodes.reads

    assert page(name(20_000)) >= 2
    assert page(name(20_100)) == 2  # the list of nodes, and the node
    assert len(decoded) == 20


def test_broken_nodes_are_refused_when_they_are_listed() -> None:
    def file(called: str) -> list[object]:
        return [0, called, False, b""]

    nodes = Nodes()
    for entries, error in (
        ([file("b"), file("a")], TreeBroken),
        ([file("a"), file("a")], TreeBroken),
        ([file("a/b")], NameRefused),
        ([file("..")], NameRefused),
        (["a"], TreeBroken),
        ([[0, 7, False, b""]], TreeBroken),
        ([[9, "a", False, b""]], TreeBroken),
    ):
        root = nodes.store(msgpack.packb(["tree1", entries], use_bin_type=True))
        with pytest.raises(error):
            list(TreeEditor(nodes.read, nodes.store).listing(root))
