"""How well the files of a private drive are kept: which packs each needs is known here alone."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tesra.kit.errors import TesraError
from tesra.sdk.private.chunks import SealedReader, file_ids
from tesra.storage.editing import Parts
from tesra.storage.tree import Entries, File, Folder, NodeList, read_node
from tesra.storage.wellness import Wellness, worst
from tesra.wire.private import PackHealth

_LOST = frozenset({"pack_locked", "pack_away"})


@dataclass(frozen=True, slots=True)
class Needed:
    """A file with every chunk that it needs; or a folder whose listing can't be read now."""

    path: Parts
    size_bytes: int
    chunks: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class _Node:
    folder: Parts
    id: bytes
    above: tuple[bytes, ...] = ()  # the lists that lead to it

    @property
    def ids(self) -> tuple[bytes, ...]:
        """What has to be there for this listing to be read."""
        return (*self.above, self.id)


def needs(reader: SealedReader, at: Parts, tree: bytes, *, only: str | None = None) -> list[Needed]:
    """All files below the folder ``at``, or the one of this name, by the bytes of their names."""
    found: list[Needed] = []
    level = [_Node(at, tree)]
    while level:
        deeper: list[_Node] = []
        for node, content in _read(reader, level):
            if content is None:
                found.append(Needed(node.folder, 0, frozenset(node.ids)))
            elif isinstance(content, NodeList):
                deeper += [_Node(node.folder, below, node.ids) for below in content.nodes]
            else:
                here = [one for one in content.entries if only in (None, one.name)]
                files = [one for one in here if isinstance(one, File)]
                found += [_of_file(reader, (*node.folder, f.name), f, node.ids) for f in files]
                deeper += [
                    _Node((*node.folder, one.name), one.tree)
                    for one in here
                    if isinstance(one, Folder)
                ]
        level = deeper
    return sorted(found, key=lambda one: order(one.path))


def order(path: Parts) -> tuple[bytes, ...]:
    """How paths are sorted."""
    return tuple(part.encode() for part in path)


def judge(packs: Iterable[str], known: dict[str, PackHealth]) -> Wellness | None:
    """How well what needs all these packs is kept; None: it needs none."""
    return worst(
        Wellness(one.copies, one.machines, one.last_proof, one.state, one.away)
        for one in (known[pack] for pack in packs)
    )


def _of_file(reader: SealedReader, path: Parts, file: File, nodes: Sequence[bytes]) -> Needed:
    ids: list[bytes] = []
    if file.listed:
        try:
            ids = file_ids(reader, file)
        except TesraError as error:
            _refuse_others(error)
    return Needed(path, file.size, frozenset((*nodes, *file.chunks, *ids)))


def _read(
    reader: SealedReader, level: Sequence[_Node]
) -> Iterator[tuple[_Node, Entries | NodeList | None]]:
    """Each node with what it holds; None: it can't be read now."""
    wanted: dict[bytes, list[_Node]] = {}
    for node in level:
        wanted.setdefault(node.id, []).append(node)
    for portion in reader.portions(wanted):
        plain = _plain(reader, portion)
        for node_id in portion:
            content = read_node(plain[node_id]) if node_id in plain else None
            for node in wanted[node_id]:
                yield node, content


def _plain(reader: SealedReader, ids: Sequence[bytes]) -> dict[bytes, bytes]:
    """The nodes that can be read now: all at once, and one by one when some can't."""
    try:
        return dict(reader.read(ids))
    except TesraError as error:
        _refuse_others(error)
    return dict(_each(reader, ids))


def _each(reader: SealedReader, ids: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    for node_id in ids:
        try:
            yield node_id, reader.one(node_id)
        except TesraError as error:
            _refuse_others(error)


def _refuse_others(error: TesraError) -> None:
    """Raise it again unless it says that a pack has no good copy, or none at a peer that answers."""
    if str(error.fields.get("code", error.code)) not in _LOST:
        raise error
