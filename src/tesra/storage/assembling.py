"""Trees put together from files that were read one by one, now or earlier."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import BinaryIO, Protocol

from tesra.storage.chunking import INLINE_BYTES, cut_stream
from tesra.storage.sending import ChunkSender, Source
from tesra.storage.tree import DIRECT_CHUNKS, IDS_PER_LIST, File, Folder, NodeWriter

_Names = dict[str, "_Names | File"]


class Offered(Protocol):
    """What takes a chunk and names it; ``ChunkSender`` sends it as well."""

    def offer(self, plain: bytes, source: Source | None = None) -> bytes: ...


def cut_file(
    sender: Offered,
    file: BinaryIO,
    *,
    name: str,
    executable: bool = False,
    path: str | None = None,
    took: Callable[[int], None] = lambda _: None,
) -> File:
    """Offer a file's chunks from its beginning to its end; the entry that names them.

    ``path``: where its bytes can be read again, if they can. ``took`` hears of each part's size.
    """
    head = file.read(INLINE_BYTES + 1)
    if len(head) <= INLINE_BYTES:
        took(len(head))
        return inline_file(name, head, executable=executable)
    file.seek(0)
    offset, ids = 0, []
    for plain in cut_stream(file):
        source = Source(path, offset, len(plain)) if path is not None else None
        ids.append(sender.offer(plain, source))
        offset += len(plain)
        took(len(plain))
    if len(ids) <= DIRECT_CHUNKS:
        return File(name, executable, offset, chunks=tuple(ids))
    lists = [ids[i : i + IDS_PER_LIST] for i in range(0, len(ids), IDS_PER_LIST)]
    listed = tuple(sender.offer(b"".join(part)) for part in lists)
    return File(name, executable, offset, chunks=listed, listed=True)


def inline_file(name: str, content: bytes, *, executable: bool = False) -> File:
    """A small file, whole in its entry."""
    return File(name, executable, len(content), inline=content)


def build_tree(sender: ChunkSender, files: Mapping[str, File]) -> bytes:
    """The id of the tree that holds the files at these paths (with slashes)."""
    names: _Names = {}
    for path, file in files.items():
        *above, name = path.split("/")
        folder = names
        for part in above:
            below = folder.setdefault(part, {})
            assert isinstance(below, dict), f"'{path}' lies below a file"
            folder = below
        folder[name] = replace(file, name=name)
    return _folder(sender, names)


def _folder(sender: ChunkSender, names: _Names) -> bytes:
    writer = NodeWriter()
    for name in sorted(names, key=str.encode):
        found = names[name]
        entry = found if isinstance(found, File) else Folder(name, _folder(sender, found))
        for plain in writer.add(entry):
            writer.stored(sender.offer(plain))
    for plain in writer.finish():
        writer.stored(sender.offer(plain))
    return writer.tree_id
