"""What a tree's node amounts to, without the content that lies in it.

For those who count and check: of a folder of small files, nearly all of a node is their content,
and making an entry of each costs more than to open it.
"""

from dataclasses import dataclass, field

from tesra.storage.tree import (
    Entry,
    File,
    Folder,
    Link,
    NodeList,
    TreeBroken,
    check_name,
    open_node,
    read_entry,
)

_INLINE_FILE = (int, str, bool, bytes)


@dataclass(slots=True)
class Census:
    """One node's own entries, and the nodes below it as often as they occur.

    ``file_count`` has links too; ``size_bytes`` is of all files, as they give it themselves.
    """

    listed: bool  # a list of nodes: those below it are at its own depth
    entries: int = 0
    file_count: int = 0
    size_bytes: int = 0
    below: list[bytes] = field(default_factory=list)
    chunked: list[File] = field(default_factory=list)  # those whose content lies elsewhere
    links: list[Link] = field(default_factory=list)


def take_census(plain: bytes | memoryview) -> Census:
    """Of a node's bytes; ``TreeBroken`` or ``NameRefused`` when it is none that may be."""
    node = open_node(plain)
    if isinstance(node, NodeList):
        return Census(listed=True, below=list(node.nodes))
    census = Census(listed=False, entries=len(node))
    last = b""
    for item in node:
        name = check_name(item[1]).encode()
        if name <= last:
            raise TreeBroken("the entries of a tree node are not sorted")
        last = name
        if item[0] == 0 and tuple(map(type, item)) == _INLINE_FILE:
            census.file_count += 1
            census.size_bytes += len(item[3])
        else:
            _count(census, read_entry(item))
    return census


def _count(census: Census, entry: Entry) -> None:
    if isinstance(entry, Folder):
        census.below.append(entry.tree)
        return
    census.file_count += 1
    if isinstance(entry, Link):
        census.links.append(entry)
    else:
        census.size_bytes += entry.size
        census.chunked += [entry] if entry.inline is None else []
