"""Some files of a snapshot, read in one walk: bounded in number and bytes, nearest the top first."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tesra.drive.reading import EpochReader
from tesra.storage.tree import File, Folder

_AT_ONCE = 64

Place = tuple[int, str]  # how deep, and the path: the order in which files are taken


@dataclass(slots=True)
class Sample:
    """``paths``: of all files and links; ``contents``: of those that were wanted and fit."""

    paths: list[str] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)


async def take_sample(
    reader: EpochReader,
    root: bytes,
    wanted: Callable[[str, int], bool],
    *,
    most_files: int,
    most_bytes: int,
) -> Sample:
    """``wanted(path, size)`` chooses; beyond the limits, what lies deepest is left out."""
    sample = Sample()
    found: list[tuple[Place, File]] = []
    async for parts, entry in reader.walk(root):
        if isinstance(entry, Folder):
            continue
        path = "/".join(parts)
        sample.paths.append(path)
        if isinstance(entry, File) and wanted(path, entry.size):
            found.append(((len(parts), path), entry))
            if len(found) >= 2 * most_files:  # so that what is inline does not pile up
                found = _nearest(found, most_files)
    taken, room = [], most_bytes
    for (_, path), file in _nearest(found, most_files):
        room -= file.size
        if room < 0:
            break
        taken.append((path, file))
    for start in range(0, len(taken), _AT_ONCE):
        await _read(reader, taken[start : start + _AT_ONCE], sample.contents)
    return sample


def _nearest(found: list[tuple[Place, File]], count: int) -> list[tuple[Place, File]]:
    return sorted(found, key=lambda one: one[0])[:count]


async def _read(
    reader: EpochReader, files: list[tuple[str, File]], contents: dict[str, bytes]
) -> None:
    ids = {path: await reader.chunk_ids(file) for path, file in files if file.inline is None}
    chunks = await reader.read(one for own in ids.values() for one in own)
    for path, file in files:
        if file.inline is not None:
            contents[path] = file.inline
        else:
            contents[path] = b"".join(chunks[one] for one in ids[path])
