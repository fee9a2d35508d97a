"""Edited trees against a plain model, and against writing the whole tree anew."""

from collections.abc import Iterator
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from tesra.storage.editing import (
    IntoItself,
    NotAFolder,
    NothingThere,
    PathInvalid,
    TreeEditor,
    parse_path,
)
from tesra.storage.tree import Entry, File, Folder, NameRefused, NodeWriter

Model = dict[str, Any]  # bytes of a file, or a Model


class Nodes:
    """Nodes in memory; counts what is read and written."""

    def __init__(self) -> None:
        self.stored: dict[bytes, bytes] = {}
        self.reads = 0
        self.writes = 0
        self.editor = self.fresh()

    def fresh(self) -> TreeEditor:
        return TreeEditor(self.read, self.store)

    def read(self, node: bytes) -> bytes:
        self.reads += 1
        return self.stored[node]

    def store(self, plain: bytes) -> bytes:
        self.writes += 1
        node = blake3(plain).digest()
        self.stored[node] = plain
        return node

    def whole(self, model: Model) -> bytes:
        """The tree written anew."""
        writer = NodeWriter()
        for name in sorted(model, key=str.encode):
            for plain in writer.add(self._entry(name, model[name])):
                writer.stored(self.store(plain))
        for plain in writer.finish():
            writer.stored(self.store(plain))
        return writer.tree_id

    def _entry(self, name: str, held: Any) -> Entry:
        if isinstance(held, dict):
            return Folder(name, self.whole(held))
        return a_file(name, held)


def a_file(name: str, content: bytes) -> File:
    return File(name, False, len(content), inline=content)


def set_in(model: Model, path: tuple[str, ...], content: bytes) -> None:
    for name in path[:-1]:
        model = model.setdefault(name, {})
    model[path[-1]] = content


names = st.sampled_from(["a", "b", "c", "ä", "数"])
paths = st.lists(names, min_size=1, max_size=3).map(tuple)
contents = st.binary(max_size=4)
steps = st.lists(
    st.tuples(st.sampled_from(["put", "remove", "move", "copy"]), paths, paths, contents)
)


def reachable(model: Model, path: tuple[str, ...]) -> Any:
    held: Any = model
    for name in path:
        if not isinstance(held, dict) or name not in held:
            return None
        held = held[name]
    return held


def blocked(model: Model, path: tuple[str, ...]) -> bool:
    return any(isinstance(reachable(model, path[:size]), bytes) for size in range(1, len(path)))


@settings(max_examples=300, deadline=None)
@given(steps)
def test_edits_do_what_they_would_do_to_folders_on_a_disk(work: list[Any]) -> None:
    nodes, model = Nodes(), {}
    root = nodes.editor.empty()
    for verb, path, other, content in work:
        held = reachable(model, path)
        if verb == "put":
            if blocked(model, path):
                with pytest.raises(NotAFolder):
                    nodes.editor.edit(root, {path: a_file(path[-1], content)})
                continue
            root = nodes.editor.edit(root, {path: a_file(path[-1], content)})
            set_in(model, path, content)
        elif held is None:
            with pytest.raises(NothingThere):
                nodes.editor.remove(root, path)
        elif verb == "remove":
            root = nodes.editor.remove(root, path)
            del reachable(model, path[:-1])[path[-1]]
        elif path == other[: len(path)] and (verb == "copy" or path != other):
            with pytest.raises(IntoItself):
                getattr(nodes.editor, verb)(root, path, other)
        elif blocked(model, other) or other == path[: len(other)]:
            continue
        else:
            root = getattr(nodes.editor, verb)(root, path, other)
            if verb == "move":
                del reachable(model, path[:-1])[path[-1]]
            set_in(model, other, held if isinstance(held, bytes) else deep(held))
        assert root == nodes.whole(model)


def deep(model: Model) -> Model:
    return {name: deep(held) if isinstance(held, dict) else held for name, held in model.items()}


many = st.dictionaries(
    st.integers(0, 4000).map(lambda number: f"file-{number:05}"), st.booleans(), max_size=60
)


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, 4000), max_size=400), many)
def test_a_folder_of_many_nodes_stays_canonical(
    present: set[int], changes: dict[str, bool]
) -> None:
    nodes = Nodes()
    model: Model = {f"file-{number:05}": b"x" * 16_000 for number in present}
    root = nodes.whole(model)
    wanted: dict[tuple[str, ...], Entry | None] = {}
    for name, stays in changes.items():
        wanted[(name,)] = a_file(name, b"y" * 9_000) if stays else None
        model.pop(name, None)
        if stays:
            model[name] = b"y" * 9_000
    assert nodes.editor.edit(root, wanted) == nodes.whole(model)


def test_one_change_in_a_large_folder_touches_few_nodes() -> None:
    nodes = Nodes()
    root = nodes.whole({f"file-{number:06}": b"x" * 200 for number in range(100_000)})
    nodes.reads = nodes.writes = 0
    nodes.fresh().edit(root, {("file-050000",): a_file("file-050000", b"new")})
    assert nodes.reads <= 12
    assert nodes.writes <= 4
    nodes.reads = 0
    listed: Iterator[Entry] = nodes.fresh().listing(root, after="file-070000")
    assert next(listed).name == "file-070001"
    assert nodes.reads <= 12


trees = st.recursive(
    contents, lambda below: st.dictionaries(names, below, max_size=3), max_leaves=8
).filter(lambda tree: isinstance(tree, dict))


@settings(max_examples=200, deadline=None)
@given(trees, trees)
def test_a_difference_leads_from_one_tree_to_the_other(old: Model, new: Model) -> None:
    nodes = Nodes()
    before, after = nodes.whole(old), nodes.whole(new)
    assert nodes.editor.edit(before, nodes.editor.diff(before, after)) == after


@settings(max_examples=200, deadline=None)
@given(trees, trees, trees)
def test_merging_loses_no_change_of_either_side(base: Model, mine: Model, other: Model) -> None:
    nodes = Nodes()
    roots = [nodes.whole(tree) for tree in (base, mine, other)]
    merged = nodes.editor.merge(*roots)
    everything = set(files_of(nodes, merged.root).values())
    for side in (mine, other):
        for path, content in files_in(side):
            if reachable(base, path) != content:
                assert content in everything


def files_in(model: Model, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], bytes]]:
    for name, held in model.items():
        if isinstance(held, dict):
            yield from files_in(held, (*above, name))
        else:
            yield (*above, name), held


def files_of(nodes: Nodes, tree: bytes, above: tuple[str, ...] = ()) -> dict[Any, bytes]:
    found: dict[Any, bytes] = {}
    for entry in nodes.editor.listing(tree):
        if isinstance(entry, Folder):
            found |= files_of(nodes, entry.tree, (*above, entry.name))
        elif isinstance(entry, File):
            found[*above, entry.name] = entry.inline or b""
    return found


def test_two_that_write_the_same_path_both_keep_their_file() -> None:
    nodes = Nodes()
    base = nodes.whole({"d": {}})
    mine = nodes.whole({"d": {"a.txt": b"mine"}})
    other = nodes.whole({"d": {"a.txt": b"theirs"}})
    merged = nodes.editor.merge(base, mine, other)
    assert files_of(nodes, merged.root) == {
        ("d", "a.txt"): b"mine",
        ("d", "a (conflict).txt"): b"theirs",
    }
    assert merged.renamed == ((("d", "a.txt"), ("d", "a (conflict).txt")),)


@pytest.mark.parametrize("text", ["../x", "a/../b", "a/.."])
def test_a_path_does_not_climb(text: str) -> None:
    with pytest.raises(PathInvalid):
        parse_path(text)


@pytest.mark.parametrize("text", ["a\0b", "x" * 256, "\ud800"])
def test_a_name_that_no_disk_takes_is_refused(text: str) -> None:
    with pytest.raises(NameRefused):
        parse_path(text)


def test_blanks_and_stars_are_names_like_any_other() -> None:
    assert parse_path("//a b/./🎈/") == ("a b", "🎈")
    assert parse_path("/") == ()
