import io

import pytest

from factories.storage import KEYS, pack_of, random_bytes
from tesra.storage.format import ChunkBroken, open_chunk, seal_chunk
from tesra.storage.packing import (
    MAGIC,
    PackBroken,
    PackEntry,
    Place,
    check_entries,
    coalesce,
    entry_bytes,
    read_index,
)
from tesra.storage.tree import (
    Entries,
    File,
    Folder,
    Link,
    NameRefused,
    NodeList,
    NodeWriter,
    TreeBroken,
    check_name,
    link_stays_inside,
    marked_name,
    read_node,
)


def test_what_shrinks_is_stored_compressed() -> None:
    chunk_id = KEYS.chunk_id(b"a" * 100_000)
    assert len(seal_chunk(KEYS.chunk_key(chunk_id), chunk_id, b"a" * 100_000).sealed) < 1000


def test_a_chunk_opens_with_its_own_key_only() -> None:
    one, other = KEYS.chunk_id(b"one"), KEYS.chunk_id(b"other")
    sealed = seal_chunk(KEYS.chunk_key(one), one, b"one").sealed
    assert open_chunk(KEYS.chunk_key(one), one, sealed) == b"one"
    with pytest.raises(ChunkBroken):
        open_chunk(KEYS.chunk_key(other), one, sealed)
    with pytest.raises(ChunkBroken):
        open_chunk(KEYS.chunk_key(one), other, sealed)


def test_keys_do_not_show_in_logs() -> None:
    assert "iiii" not in repr(KEYS)
    assert "dddd" not in repr(KEYS)


def test_pack_gives_back_its_chunks() -> None:
    plain = [random_bytes(n, seed=n) for n in (0, 1, 70, 100_000)]
    pack = pack_of(*plain)
    file = io.BytesIO(pack.data)
    entries = read_index(file, len(pack.data))
    assert tuple(entries) == pack.entries
    opened = [
        open_chunk(KEYS.chunk_key(e.chunk_id), e.chunk_id, entry_bytes(file, e)) for e in entries
    ]
    assert opened == plain


@pytest.mark.parametrize("cut", [1, 40, 60, 1000])
def test_pack_that_is_cut_short_is_refused(cut: int) -> None:
    data = pack_of(random_bytes(2000)).data[:-cut]
    with pytest.raises(PackBroken):
        read_index(io.BytesIO(data), len(data))


def test_index_with_gap_overlap_or_double_is_refused() -> None:
    start = len(MAGIC)
    a = PackEntry(b"a" * 32, start, 100, 50)
    good = PackEntry(b"b" * 32, start + 100, 100, 50)
    check_entries([a, good], chunks_end=start + 200)
    for bad in (
        PackEntry(b"b" * 32, start + 101, 100, 50),
        PackEntry(b"b" * 32, start + 99, 100, 50),
        PackEntry(b"a" * 32, start + 100, 100, 50),
        PackEntry(b"b" * 32, start + 100, 5, 50),
        PackEntry(b"b" * 32, start + 100, 100, 2**31),
    ):
        with pytest.raises(PackBroken):
            check_entries([a, bad], chunks_end=start + 200)
    with pytest.raises(PackBroken):
        check_entries([a], chunks_end=start + 200)


def test_neighbours_are_read_together_and_strangers_apart() -> None:
    places = [
        Place(b"3", "p", 1_000_000, 10),
        Place(b"1", "p", 0, 10),
        Place(b"2", "p", 20, 10),
        Place(b"4", "q", 30, 10),
    ]
    spans = [(s.pack, s.start, s.end, s.chunk_ids) for s in coalesce(places)]
    assert spans == [
        ("p", 0, 30, (b"1", b"2")),
        ("p", 1_000_000, 1_000_010, (b"3",)),
        ("q", 30, 40, (b"4",)),
    ]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/", "a\0b", "x" * 256, "字" * 86, "\udcff"]
)
def test_name_that_no_folder_can_hold_is_refused(name: str) -> None:
    with pytest.raises(NameRefused):
        check_name(name)


@pytest.mark.parametrize(
    ("depth", "target", "inside"),
    [
        (0, "a/b", True),
        (0, "..", False),
        (1, "../a", True),
        (1, "../../a", False),
        (2, "a/../b", False),
        (0, "/etc/passwd", False),
        (0, "", False),
        (3, "./.././x", True),
        (0, "a\0", False),
    ],
)
def test_links_stay_inside(depth: int, target: str, inside: bool) -> None:
    assert link_stays_inside(depth, target) is inside


def nodes_of(entries: list[File | Folder | Link]) -> tuple[bytes, dict[bytes, bytes]]:
    writer, stored = NodeWriter(), {}

    def store(plain: bytes) -> None:
        node_id = KEYS.chunk_id(plain)
        stored[node_id] = plain
        writer.stored(node_id)

    for entry in entries:
        for plain in writer.add(entry):
            store(plain)
    for plain in writer.finish():
        store(plain)
    return writer.tree_id, stored


def test_a_small_folder_is_one_node() -> None:
    entries = [
        File("a", False, 3, inline=b"abc"),
        File("b", True, 9, chunks=(b"x" * 32, b"y" * 32)),
        File("c", False, 9, chunks=(b"x" * 32,), listed=True),
        Folder("d", b"t" * 32),
        Link("e", "a"),
    ]
    root, stored = nodes_of(entries)
    assert read_node(stored[root]) == Entries(tuple(entries))


def test_an_empty_folder_is_a_node() -> None:
    root, stored = nodes_of([])
    assert read_node(stored[root]) == Entries(())


def test_a_large_folder_is_a_list_of_nodes_and_a_change_touches_few() -> None:
    entries = [File(f"{i:06}", False, 500, inline=random_bytes(500, i)) for i in range(6000)]
    root, stored = nodes_of(entries)
    node = read_node(stored[root])
    assert isinstance(node, NodeList)
    found = [read_node(stored[below]) for below in node.nodes]
    assert [e for part in found if isinstance(part, Entries) for e in part.entries] == entries
    entries[3000] = File("003000", False, 3, inline=b"new")
    _, after = nodes_of(entries)
    assert len(after.keys() - stored.keys()) == 2  # the node and the list


def test_entries_out_of_order_are_refused() -> None:
    with pytest.raises(TreeBroken):
        nodes_of([Link("b", "x"), Link("a", "x")])
    with pytest.raises(TreeBroken):
        nodes_of([Link("a", "x"), Link("a", "x")])


@pytest.mark.parametrize(
    "plain", [b"", b"\xc0", b"\x92\xa5tree1\x91\x93\x03\xa1.\xc4\x01x", b"\x92"]
)
def test_garbage_is_no_node(plain: bytes) -> None:
    with pytest.raises((TreeBroken, NameRefused)):
        read_node(plain)


@pytest.mark.parametrize(
    ("name", "marked"),
    [
        ("a.txt", "a (x).txt"),
        (".bashrc", ".bashrc (x)"),
        ("长" * 84 + "abc", "长" * 83 + "a (x)"[1:]),
        ("长" * 83 + ".txt", "长" * 82 + " (x).txt"),
        ("a." + "b" * 253, "a." + "b" * 249 + " (x)"),
    ],
)
def test_a_name_beside_another_is_no_longer_than_a_name_may_be(name: str, marked: str) -> None:
    assert marked_name(check_name(name), "x") == marked
    assert check_name(marked) == marked
