"""Trees: what a folder holds, as canonical bytes, so that equal folders have equal ids everywhere.

A node is a chunk. It lists entries sorted by the bytes of their names; a folder too large for one
node is a list of such nodes. No times and no owners are kept. Nothing that a name or a link says
can lead out of the tree: both are checked when written and again when read.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

import msgpack
from blake3 import blake3

from tesra.kit.errors import Invalid
from tesra.storage.format import ID_BYTES, MAX_CHUNK_BYTES

MAX_NAME_BYTES = 255
_MAX_SUFFIX_BYTES = 60  # what is longer is no kind of file
MAX_LINK_BYTES = 4096
MAX_DEPTH = 100
MAX_ENTRIES = 2_000_000  # of one snapshot, folders and links included
DIRECT_CHUNKS = 4096  # a file with more (about 4 GiB) lists its ids in chunks of their own
IDS_PER_LIST = 65_536

_RENAME = "Give it another name."
_NODE_TARGET_BYTES = 512 * 2**10
_NODE_MIN_BYTES = 64 * 2**10
_NODE_MAX_BYTES = 2 * 2**20
_TREE, _LIST = "tree1", "list1"
_INLINE, _CHUNKS, _CHUNK_LISTS, _FOLDER, _LINK = range(5)


class NameRefused(Invalid):
    """A name or link target that a tree may not hold."""


class TreeBroken(Invalid):
    """A node is not what a node can be."""


class FolderTooLarge(Invalid):
    """A folder has more entries than one list of nodes can name."""


@dataclass(frozen=True, slots=True)
class File:
    """A file: its bytes inline, or the ids of its chunks (``listed``: of chunks that list ids)."""

    name: str
    executable: bool
    size: int
    inline: bytes | None = None
    chunks: tuple[bytes, ...] = ()
    listed: bool = False


@dataclass(frozen=True, slots=True)
class Folder:
    name: str
    tree: bytes


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link that stays inside: ``..`` only in front, and no more than its depth."""

    name: str
    target: str


Entry = File | Folder | Link
RawEntries = list[list[Any]]  # as they are packed; the second part of each is its name


@dataclass(frozen=True, slots=True)
class Entries:
    """A node that holds entries, sorted."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class NodeList:
    """A node that names the nodes of a large folder, in order."""

    nodes: tuple[bytes, ...]


class NodeWriter:
    """Turns the sorted entries of one folder into nodes, holding one node at a time.

    ``add`` and ``finish`` give the nodes to store; the caller stores each and hands its id to
    ``stored``. After ``finish`` the last id stored is the folder's.
    """

    def __init__(self) -> None:
        self._packer = msgpack.Packer(use_bin_type=True)
        self._packed: list[bytes] = []
        self._size = 0
        self._ids: list[bytes] = []
        self._last = b""

    def add(self, entry: Entry) -> Iterator[bytes]:
        name = check_name(entry.name).encode()
        if name <= self._last:
            raise TreeBroken(f"'{entry.name}' is out of order or twice in a folder")
        self._last = name
        packed = self._packer.pack(_plain(entry))
        if self._size + len(packed) > _NODE_MAX_BYTES:
            yield self._close()
        self._packed.append(packed)
        self._size += len(packed)
        if self._size >= _NODE_MIN_BYTES and _cuts_after(name, len(packed)):
            yield self._close()

    def stored(self, node_id: bytes) -> None:
        self._ids.append(node_id)

    def finish(self) -> Iterator[bytes]:
        if self._packed or not self._ids:
            yield self._close()
        if len(self._ids) > 1:
            node = msgpack.packb([_LIST, b"".join(self._ids)], use_bin_type=True)
            if len(node) > MAX_CHUNK_BYTES:
                raise FolderTooLarge("a folder has too many entries")
            yield node

    @property
    def clean(self) -> bool:
        """Whether a node has just been closed: what comes next begins another."""
        return not self._packed

    @property
    def tree_id(self) -> bytes:
        return self._ids[-1]

    def _close(self) -> bytes:
        packer = msgpack.Packer(use_bin_type=True, autoreset=False)
        packer.pack_array_header(2)
        packer.pack(_TREE)
        packer.pack_array_header(len(self._packed))
        node = b"".join((packer.bytes(), *self._packed))
        self._packed, self._size = [], 0
        return node


def read_node(plain: bytes) -> Entries | NodeList:
    """The node in a chunk; ``TreeBroken`` or ``NameRefused`` when it is none that may be."""
    node = open_node(plain)
    return node if isinstance(node, NodeList) else Entries(read_entries(node))


def open_node(plain: bytes | memoryview) -> NodeList | RawEntries:
    """The node in a chunk with its entries as they are packed: each has a name, no more is sure.

    For who wants a few of many: ``read_entry`` costs ten times as much as this for each.
    """
    try:
        tag, body = msgpack.unpackb(plain, raw=False, strict_map_key=True)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise TreeBroken("a tree node does not parse") from error
    if tag == _LIST and isinstance(body, bytes):
        return NodeList(tuple(split_ids(body)))
    if tag != _TREE or not isinstance(body, list):
        raise TreeBroken("a tree node is of an unknown kind")
    if not all(type(item) is list and len(item) > 2 and type(item[1]) is str for item in body):
        raise TreeBroken("a tree entry is of an unknown kind")
    return body


def read_entries(raw: RawEntries) -> tuple[Entry, ...]:
    """All entries of a node, checked."""
    entries = tuple(read_entry(item) for item in raw)
    names = [entry.name.encode() for entry in entries]
    if any(a >= b for a, b in pairwise(names)):
        raise TreeBroken("the entries of a tree node are not sorted")
    return entries


def split_ids(joined: bytes) -> list[bytes]:
    """The chunk ids in a list of ids."""
    if not joined or len(joined) % ID_BYTES:
        raise TreeBroken("a list of chunk ids is cut short")
    return [joined[i : i + ID_BYTES] for i in range(0, len(joined), ID_BYTES)]


def check_name(name: str) -> str:
    """The name, when a folder may hold it on every machine that runs Tesra."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise NameRefused(f"The name {name!r} is not UTF-8.", way_out=_RENAME) from error
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise NameRefused(f"The name {name!r} is not a name of one file.", way_out=_RENAME)
    if size > MAX_NAME_BYTES:
        raise NameRefused(
            f"The name '{name[:40]}…' has {size} bytes; it may have {MAX_NAME_BYTES}.",
            way_out=_RENAME,
        )
    return name


def marked_name(name: str, mark: str) -> str:
    """``report (mark).txt``: a name beside another, cut where the two would be too long for one."""
    suffix = PurePosixPath(name).suffix
    if len(suffix.encode()) > _MAX_SUFFIX_BYTES:
        suffix = ""
    stem, tail = name.removesuffix(suffix), f" ({mark}){suffix}"
    room = MAX_NAME_BYTES - len(tail.encode())
    return stem.encode()[:room].decode(errors="ignore") + tail


def link_stays_inside(depth: int, target: str) -> bool:
    """Whether a link in a folder ``depth`` levels below the root can't lead out of it.

    ``..`` is allowed in front only: after a name it could step out of where another link leads.
    """
    if not target or target.startswith("/") or "\0" in target:
        return False
    if len(target.encode(errors="surrogateescape")) > MAX_LINK_BYTES:
        return False
    parts = [part for part in target.split("/") if part not in {"", "."}]
    ups = 0
    while ups < len(parts) and parts[ups] == "..":
        ups += 1
    return ups <= depth and ".." not in parts[ups:]


def _cuts_after(name: bytes, size: int) -> bool:
    """Cuts depend on names alone, so that a changed file changes one node; 512 KiB on average."""
    return int.from_bytes(blake3(name).digest(4)) * _NODE_TARGET_BYTES < size << 32


def content_id(entry: Entry) -> bytes:
    """The same for equal content, whatever its name; within one epoch only."""
    return blake3(msgpack.packb(_plain(replace(entry, name="")), use_bin_type=True)).digest()


def _plain(entry: Entry) -> list[Any]:
    match entry:
        case File(inline=bytes() as inline):
            return [_INLINE, entry.name, entry.executable, inline]
        case File():
            kind = _CHUNK_LISTS if entry.listed else _CHUNKS
            return [kind, entry.name, entry.executable, entry.size, b"".join(entry.chunks)]
        case Folder():
            return [_FOLDER, entry.name, entry.tree]
        case Link():
            return [_LINK, entry.name, entry.target]


def read_entry(item: list[Any]) -> Entry:
    """One entry of an opened node, checked."""
    match item:
        case [0, str() as name, bool() as executable, bytes() as inline]:
            return File(check_name(name), executable, len(inline), inline=inline)
        case [
            1 | 2 as kind,
            str() as name,
            bool() as executable,
            int() as size,
            bytes() as ids,
        ] if size >= 0:
            return File(
                check_name(name),
                executable,
                size,
                chunks=tuple(split_ids(ids)),
                listed=kind == _CHUNK_LISTS,
            )
        case [3, str() as name, bytes() as tree] if len(tree) == ID_BYTES:
            return Folder(check_name(name), tree)
        case [4, str() as name, str() as target]:
            return Link(check_name(name), target)
        case _:
            raise TreeBroken("a tree entry is of an unknown kind")
