"""Any bytes go in and come out; any change is noticed."""

import io
from contextlib import suppress

import msgpack
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from factories.storage import KEYS, pack_of, random_bytes
from tesra.storage.census import Census, take_census
from tesra.storage.chunking import cut_stream
from tesra.storage.format import MAX_CHUNK_BYTES, ChunkBroken, open_chunk, seal_chunk
from tesra.storage.packing import PackBroken, entry_bytes, read_index
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
    read_node,
)

names = st.text(min_size=1, max_size=60).filter(lambda name: _is_name(name))
ids = st.binary(min_size=32, max_size=32)


def _is_name(name: str) -> bool:
    try:
        check_name(name)
    except NameRefused:
        return False
    return True


def opened(file: io.BytesIO, size: int) -> list[bytes]:
    return [
        open_chunk(KEYS.chunk_key(e.chunk_id), e.chunk_id, entry_bytes(file, e))
        for e in read_index(file, size)
    ]


@given(st.binary(max_size=5000))
def test_any_chunk_comes_back(plain: bytes) -> None:
    chunk_id = KEYS.chunk_id(plain)
    key = KEYS.chunk_key(chunk_id)
    assert open_chunk(key, chunk_id, seal_chunk(key, chunk_id, plain).sealed) == plain


@given(st.binary(max_size=500), st.data())
def test_a_changed_chunk_never_opens(plain: bytes, data: st.DataObject) -> None:
    chunk_id = KEYS.chunk_id(plain)
    key = KEYS.chunk_key(chunk_id)
    sealed = bytearray(seal_chunk(key, chunk_id, plain).sealed)
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ChunkBroken):
        open_chunk(key, chunk_id, bytes(sealed))


@given(st.lists(st.binary(max_size=3000), max_size=8, unique=True))
def test_any_pack_comes_back(plain: list[bytes]) -> None:
    pack = pack_of(*plain)
    file = io.BytesIO(pack.data)
    assert opened(file, len(pack.data)) == plain


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4, unique=True), st.data())
def test_a_changed_pack_is_noticed(plain: list[bytes], data: st.DataObject) -> None:
    pack = pack_of(*plain)
    changed = bytearray(pack.data)
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    assert blake3(changed).hexdigest() != pack.id
    file = io.BytesIO(changed)
    with pytest.raises((PackBroken, ChunkBroken)):
        opened(file, len(changed))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3_000_000), st.integers(0, 3_000_000), st.binary(max_size=20))
def test_chunks_are_the_stream_and_an_insertion_moves_few(
    size: int, at: int, inserted: bytes
) -> None:
    content = random_bytes(size + 4_000_000)
    chunks = list(cut_stream(io.BytesIO(content)))
    assert b"".join(chunks) == content
    assert all(len(chunk) <= MAX_CHUNK_BYTES for chunk in chunks)
    changed = content[:at] + inserted + content[at:]
    after = list(cut_stream(io.BytesIO(changed)))
    assert b"".join(after) == changed
    assert len(set(after) - set(chunks)) <= 4


entries = st.one_of(
    st.builds(
        lambda name, run, inline: File(name, run, len(inline), inline=inline),
        names,
        st.booleans(),
        st.binary(max_size=100),
    ),
    st.builds(
        lambda name, run, size, chunks, listed: File(
            name, run, size, chunks=tuple(chunks), listed=listed
        ),
        names,
        st.booleans(),
        st.integers(0, 2**60),
        st.lists(ids, min_size=1, max_size=4),
        st.booleans(),
    ),
    st.builds(Folder, names, ids),
    st.builds(Link, names, st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)),
)


@given(st.lists(entries, max_size=10, unique_by=lambda entry: entry.name))
def test_any_folder_comes_back(found: list[File | Folder | Link]) -> None:
    ordered = sorted(found, key=lambda entry: entry.name.encode())
    writer = NodeWriter()
    nodes = [plain for entry in ordered for plain in writer.add(entry)] + list(writer.finish())
    assert [read_node(plain) for plain in nodes] == [Entries(tuple(ordered))]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_node_or_refused(plain: bytes) -> None:
    with suppress(TreeBroken, NameRefused):
        read_node(plain)


def counted(plain: bytes) -> Census | None:
    """The census by way of the entries; None for what is no node."""
    try:
        node = read_node(plain)
    except (TreeBroken, NameRefused):
        return None
    if isinstance(node, NodeList):
        return Census(listed=True, below=list(node.nodes))
    files = [entry for entry in node.entries if isinstance(entry, File)]
    links = [entry for entry in node.entries if isinstance(entry, Link)]
    return Census(
        listed=False,
        entries=len(node.entries),
        file_count=len(files) + len(links),
        size_bytes=sum(file.size for file in files),
        below=[entry.tree for entry in node.entries if isinstance(entry, Folder)],
        chunked=[file for file in files if file.inline is None],
        links=links,
    )


def taken(plain: bytes) -> Census | None:
    try:
        return take_census(plain)
    except (TreeBroken, NameRefused):
        return None


@given(st.lists(entries, max_size=10, unique_by=lambda entry: entry.name), st.data())
def test_a_census_counts_and_refuses_what_reading_does(
    found: list[File | Folder | Link], data: st.DataObject
) -> None:
    ordered = sorted(found, key=lambda entry: entry.name.encode())
    writer = NodeWriter()
    [plain] = [plain for entry in ordered for plain in writer.add(entry)] + list(writer.finish())
    assert taken(plain) is not None
    assert taken(plain) == counted(plain)
    changed = bytearray(plain)
    changed[data.draw(st.integers(0, len(plain) - 1))] ^= data.draw(st.integers(1, 255))
    assert taken(bytes(changed)) == counted(bytes(changed))


@given(st.binary(min_size=32, max_size=320))
def test_a_census_of_a_list_names_its_nodes(joined: bytes) -> None:
    plain = msgpack.packb(["list1", joined], use_bin_type=True)
    assert taken(plain) == counted(plain)


@given(st.integers(0, 5), st.lists(st.sampled_from(["..", ".", "", "a", "b"]), max_size=8))
def test_a_link_that_stays_inside_never_climbs_too_high(depth: int, parts: list[str]) -> None:
    target = "/".join(parts)
    if not link_stays_inside(depth, target):
        return
    level = depth
    for part in target.split("/"):
        level += {"..": -1, ".": 0, "": 0}.get(part, 1)
        assert level >= 0
