"""Changes of trees: a new root from an old one, reading and writing only the nodes concerned.

Pure over two functions: ``read`` gives a node's bytes by its id, ``store`` takes a node's bytes
and gives its id. The result is canonical: the tree that writing all of it anew would give, so
that equal folders stay equal whatever the order in which they came about.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tesra.kit.errors import Conflict, Invalid, NotFound
from tesra.storage.tree import (
    MAX_DEPTH,
    Entry,
    Folder,
    NodeList,
    NodeWriter,
    RawEntries,
    TreeBroken,
    check_name,
    marked_name,
    open_node,
    read_entries,
    read_entry,
)

Parts = tuple[str, ...]
Changes = Mapping[Parts, Entry | None]  # what stands there from now on; None: nothing
_CACHED = 256
_OPENED = 4  # nodes of up to 2 MiB, some ten times that in memory
_ENDS_KEPT = 50_000


class PathInvalid(Invalid):
    """This is no path in a drive."""


class NothingThere(NotFound):
    """There is nothing at this path."""


class NotAFolder(Conflict):
    """A part of this path is a file, not a folder."""


class IntoItself(Invalid):
    """A folder can't be moved or copied into itself."""


@dataclass(frozen=True, slots=True)
class Merged:
    """``renamed``: paths that both sides had changed, and where the other side's went."""

    root: bytes
    renamed: tuple[tuple[Parts, Parts], ...]


def parse_path(text: str) -> Parts:
    """``/a/b`` as its names; the root is empty. Raises ``PathInvalid`` or ``NameRefused``."""
    parts = tuple(part for part in text.split("/") if part not in {"", "."})
    if ".." in parts:
        raise PathInvalid(f"'{text[:200]}' climbs with '..'.", way_out="Write the path out.")
    if len(parts) > MAX_DEPTH:
        raise PathInvalid(f"A path has at most {MAX_DEPTH} parts.")
    return tuple(check_name(part) for part in parts)


def show_path(parts: Parts) -> str:
    return "/" + "/".join(parts)


class TreeEditor:
    """Made for one piece of work; what it has read it keeps."""

    def __init__(
        self,
        read: Callable[[bytes], bytes],
        store: Callable[[bytes], bytes],
        *,
        ends: dict[bytes, bytes] | None = None,
    ) -> None:
        """``ends`` may be shared by editors: the last names of nodes, by which names are found."""
        self._read = read
        self._store = store
        self._cache: dict[bytes, tuple[Entry, ...]] = {}
        self._opened: dict[bytes, NodeList | RawEntries] = {}
        self._ends = ends if ends is not None else {}

    def empty(self) -> bytes:
        """The root of a tree that holds nothing."""
        return self._write(NodeWriter())

    def lookup(self, root: bytes, path: Parts) -> Entry | None:
        """What stands at a path; the root itself is a folder without a name."""
        found: Entry | None = Folder("", root)
        for name in path:
            if not isinstance(found, Folder):
                return None
            found = self._child(found.tree, name)
        return found

    def require(self, root: bytes, path: Parts) -> Entry:
        """``lookup``, or ``NothingThere``."""
        found = self.lookup(root, path)
        if found is None:
            raise NothingThere(f"There is nothing at '{show_path(path)}'.")
        return found

    def listing(self, tree: bytes, *, after: str | None = None) -> Iterator[Entry]:
        """What a folder holds, sorted by the bytes of the names, behind the name ``after``."""
        nodes = self._nodes(tree)
        key = after.encode() if after is not None else b""
        start = self._node_of(nodes, key) if after is not None else 0
        for node in nodes[start:]:
            raw = self._raw(node)
            for item in raw[bisect_right(raw, key, key=_name) :]:
                entry = read_entry(item)
                if entry.name.encode() <= key:
                    raise TreeBroken("the entries of a tree node are not sorted")
                key = entry.name.encode()
                yield entry

    def edit(self, root: bytes, changes: Changes) -> bytes:
        """The root after all changes; missing folders above them are made.

        A change at a path replaces whatever stood there, a folder with all it holds. Raises
        ``NotAFolder`` where a change lies below a file.
        """
        if () in changes:
            raise PathInvalid("The root can't be replaced.")
        wanted: _Wanted = {}
        for path in sorted(changes, key=len):
            below = wanted
            for name in path[:-1]:
                below = _folder_of(below, name, path)
            below[path[-1]] = _Leaf(changes[path])
        return self._apply(root, wanted, ())

    def remove(self, root: bytes, path: Parts) -> bytes:
        """Without what stands at the path."""
        self.require(root, path)
        return self.edit(root, {path: None})

    def make_folder(self, root: bytes, path: Parts) -> bytes:
        """With a folder at the path; one that is there stays as it is."""
        found = self.lookup(root, path)
        if isinstance(found, Folder):
            return root
        if found is not None:
            raise NotAFolder(f"'{show_path(path)}' is a file, not a folder.")
        return self.edit(root, {path: Folder(path[-1], self.empty())})

    def graft(self, root: bytes, path: Parts, entry: Entry) -> tuple[bytes, Parts]:
        """With an entry of another tree at the path, or beside it when something else is there; and
        where it stands."""
        if not path:
            raise PathInvalid("The root can't be replaced.")
        found = self.lookup(root, path)
        if found == _renamed(entry, path[-1]):
            return root, path
        place = path if found is None else self._beside(root, path, "restored")
        return self.edit(root, {place: _renamed(entry, place[-1])}), place

    def overlay(self, root: bytes, path: Parts, tree: bytes) -> bytes:
        """With all that ``tree`` holds put into the folder at the path; the rest of it stays."""
        found = self.lookup(root, path)
        now = found.tree if isinstance(found, Folder) else self.empty()
        changes = {at: entry for at, entry in self.diff(now, tree).items() if entry is not None}
        return self.edit(root, {(*path, *at): entry for at, entry in changes.items()})

    def alone(self, entry: Entry) -> bytes:
        """The root of a tree that holds just this."""
        writer = NodeWriter()
        self._add(writer, entry)
        return self._write(writer)

    def copy(self, root: bytes, source: Parts, target: Parts) -> bytes:
        """The same at a second place; no content moves."""
        entry = self.require(root, source)
        if source == target[: len(source)]:
            raise IntoItself
        return self.edit(root, {target: _renamed(entry, target[-1])})

    def move(self, root: bytes, source: Parts, target: Parts) -> bytes:
        """At the new place, and no longer at the old one."""
        entry = self.require(root, source)
        if source == target:
            return root
        if source == target[: len(source)]:
            raise IntoItself
        return self.edit(root, {source: None, target: _renamed(entry, target[-1])})

    def diff(self, old: bytes, new: bytes, above: Parts = ()) -> dict[Parts, Entry | None]:
        """What ``edit`` has to do to ``old`` to make ``new`` of it; equal folders are not read."""
        if old == new:
            return {}
        changes: dict[Parts, Entry | None] = {}
        entries, others = self.differing(old, new)
        before = {entry.name: entry for entry in entries}
        for entry in others:
            known = before.pop(entry.name, None)
            if known == entry:
                continue
            if isinstance(known, Folder) and isinstance(entry, Folder):
                changes |= self.diff(known.tree, entry.tree, (*above, entry.name))
            else:
                changes[*above, entry.name] = entry
        return changes | {(*above, name): None for name in before}

    def differing(self, old: bytes, new: bytes) -> tuple[list[Entry], list[Entry]]:
        """What two folders hold, without the nodes that both have: those are equal, and not read."""
        mine, other = self._nodes(old), self._nodes(new)
        both = set(mine) & set(other)
        return (
            [entry for node in mine if node not in both for entry in self._entries(node)],
            [entry for node in other if node not in both for entry in self._entries(node)],
        )

    def merge(self, base: bytes, ours: bytes, theirs: bytes) -> Merged:
        """Both sides' changes since ``base``; where they differ about a path both are kept.

        ``ours`` keeps the name; theirs gets one beside it. What one side removed and the other
        changed stays as changed.
        """
        mine, other = self.diff(base, ours), self.diff(base, theirs)
        changes: dict[Parts, Entry | None] = {}
        renamed: list[tuple[Parts, Parts]] = []
        for path, entry in other.items():
            clash = _clash(path, mine)
            kept_below = [mine_at for mine_at in mine if _below(mine_at, path) and mine[mine_at]]
            if clash is None and kept_below:
                clash = path if entry is not None else None
                if entry is None:
                    changes |= {gone: None for gone in self._leaves(base, path) if gone not in mine}
                    continue
            if (
                clash is None
                or mine.get(clash) == entry == other.get(clash)
                or (clash in mine and mine[clash] is None and entry is not None)
            ):
                changes[path] = entry
            elif entry is not None:
                beside = self._beside(ours, clash)
                rest = path[len(clash) :]
                changes[*beside, *rest] = entry if rest else _renamed(entry, beside[-1])
                renamed.append((path, (*beside, *rest)))
        return Merged(self.edit(ours, changes) if changes else ours, tuple(renamed))

    def _leaves(self, root: bytes, path: Parts) -> Iterator[Parts]:
        """What a folder holds at any depth, but for folders."""
        found = self.lookup(root, path)
        if not isinstance(found, Folder):
            yield path
            return
        for entry in self.listing(found.tree):
            yield from self._leaves(root, (*path, entry.name))

    def _beside(self, root: bytes, path: Parts, why: str = "conflict") -> Parts:
        """A name beside a path that nothing has yet."""
        for number in range(1, 10_000):
            mark = why if number == 1 else f"{why} {number}"
            beside = (*path[:-1], marked_name(path[-1], mark))
            if self.lookup(root, beside) is None:
                return beside
        raise Conflict(f"There are too many copies beside '{show_path(path)}'.")

    def _apply(self, tree: bytes | None, wanted: "_Wanted", above: Parts) -> bytes:
        replaced: dict[str, Entry | None] = {}
        for name, change in wanted.items():
            if isinstance(change, _Leaf):
                replaced[name] = change.entry
                continue
            known = self._child(tree, name) if tree is not None else None
            if not isinstance(known, Folder) and not _makes(change):
                continue
            if known is not None and not isinstance(known, Folder):
                raise NotAFolder(f"'{show_path((*above, name))}' is a file, not a folder.")
            below = self._apply(known.tree if known else None, change, (*above, name))
            replaced[name] = Folder(name, below)
        return self._rewrite(tree, replaced) if replaced or tree is None else tree

    def _rewrite(self, tree: bytes | None, replaced: Mapping[str, Entry | None]) -> bytes:
        """A folder with these entries changed; nodes that do not change are not read."""
        nodes = self._nodes(tree) if tree is not None else []
        todo = sorted((name.encode(), entry) for name, entry in replaced.items())
        writer, place, position = NodeWriter(), 0, 0
        while position < len(todo) or not writer.clean:
            if writer.clean and position < len(todo) and nodes:
                start = max(place, self._first_concerned(nodes, todo[position][0]))
                for untouched in nodes[place:start]:
                    writer.stored(untouched)
                place = start
            last = place >= len(nodes) - 1
            entries = self._entries(nodes[place]) if place < len(nodes) else ()
            end = len(todo) if last else _until(todo, entries[-1].name.encode(), position)
            for entry in _merged(entries, todo[position:end]):
                self._add(writer, entry)
            position, place = end, place + 1
            if last:
                break
        for untouched in nodes[place:]:
            writer.stored(untouched)
        return self._write(writer)

    def _first_concerned(self, nodes: Sequence[bytes], name: bytes) -> int:
        """The node to begin with; the one before, where a node's own beginning changes."""
        index = self._node_of(nodes, name)
        entries = self._entries(nodes[index])
        begins = not entries or name <= entries[0].name.encode()
        return index - 1 if begins and index > 0 else index

    def _node_of(self, nodes: Sequence[bytes], name: bytes) -> int:
        """The node that has the name, or would; a few of them are read."""
        found = bisect_left(nodes, name, key=lambda node: self._last_name(node))
        return min(found, len(nodes) - 1)

    def _last_name(self, node: bytes) -> bytes:
        end = self._ends.get(node)
        if end is None:
            raw = self._raw(node)
            if len(self._ends) >= _ENDS_KEPT:
                self._ends.clear()
            end = self._ends[node] = _name(raw[-1]) if raw else b""
        return end

    def _child(self, tree: bytes, name: str) -> Entry | None:
        nodes = self._nodes(tree)
        key = name.encode()
        raw = self._raw(nodes[self._node_of(nodes, key)])
        at = bisect_left(raw, key, key=_name)
        return read_entry(raw[at]) if at < len(raw) and raw[at][1] == name else None

    def _nodes(self, tree: bytes) -> list[bytes]:
        node = self._open(tree)
        return list(node.nodes) if isinstance(node, NodeList) else [tree]

    def _entries(self, node_id: bytes) -> tuple[Entry, ...]:
        entries = self._cache.get(node_id)
        if entries is None:
            entries = read_entries(self._raw(node_id))
            while len(self._cache) >= _CACHED:
                del self._cache[next(iter(self._cache))]
            self._cache[node_id] = entries
        return entries

    def _raw(self, node_id: bytes) -> RawEntries:
        node = self._open(node_id)
        if isinstance(node, NodeList):
            raise TreeBroken("a list of nodes names another list")
        return node

    def _open(self, node_id: bytes) -> NodeList | RawEntries:
        node = self._opened.get(node_id)
        if node is None:
            node = open_node(self._read(node_id))
            while len(self._opened) >= _OPENED:
                del self._opened[next(iter(self._opened))]
            self._opened[node_id] = node
        return node

    def _add(self, writer: NodeWriter, entry: Entry) -> None:
        for plain in writer.add(entry):
            writer.stored(self._store(plain))

    def _write(self, writer: NodeWriter) -> bytes:
        for plain in writer.finish():
            writer.stored(self._store(plain))
        return writer.tree_id


@dataclass(frozen=True, slots=True)
class _Leaf:
    entry: Entry | None


_Wanted = dict[str, "_Leaf | _Wanted"]


def _folder_of(wanted: _Wanted, name: str, path: Parts) -> _Wanted:
    below = wanted.setdefault(name, {})
    if isinstance(below, _Leaf):
        if below.entry is not None:
            raise PathInvalid(f"'{show_path(path)}' lies below a path that is changed as well.")
        below = wanted[name] = {}
    return below


def _makes(wanted: _Wanted) -> bool:
    """Whether anything is put there; removing below what is not there makes no folder."""
    return any(
        change.entry is not None if isinstance(change, _Leaf) else _makes(change)
        for change in wanted.values()
    )


def _name(item: list[Any]) -> bytes:
    return str(item[1]).encode()


def _renamed(entry: Entry, name: str) -> Entry:
    return replace(entry, name=name)


def _below(path: Parts, above: Parts) -> bool:
    return len(path) > len(above) and path[: len(above)] == above


def _clash(path: Parts, changes: Changes) -> Parts | None:
    """The change of the other side that says something about this path, or lies above it."""
    for size in range(1, len(path) + 1):
        if path[:size] in changes:
            return path[:size]
    return None


def _until(todo: Sequence[tuple[bytes, Entry | None]], last: bytes, position: int) -> int:
    while position < len(todo) and todo[position][0] <= last:
        position += 1
    return position


def _merged(
    entries: Sequence[Entry], todo: Sequence[tuple[bytes, Entry | None]]
) -> Iterator[Entry]:
    changed = dict(todo)
    every = {entry.name.encode(): entry for entry in entries} | changed
    for name in sorted(every):
        entry = every[name]
        if entry is not None:
            yield entry
