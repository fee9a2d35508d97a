"""Where a project comes from: a folder, a zip or tar file, or a git repository.

Whatever it is, it becomes a folder and a choice of its files, ready for ``transfer.upload_tree``.
"""

import re
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tesra.kit.errors import NotFound
from tesra.storage.archives import unpack
from tesra.storage.cloning import clone_own, is_bare_repository, repository_name
from tesra.storage.selection import select_files

_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]*://|^[\w.+]+@[\w.\-]+:")
_ARCHIVE_SUFFIX = re.compile(r"\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz|zst))$", re.IGNORECASE)


class SourceMissing(NotFound):
    """There is nothing to import at this place."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What to upload: ``files`` lie below ``root``; ``name`` is what to call the project."""

    root: Path
    files: list[Path]
    size_bytes: int
    name: str
    warnings: list[str]


_PROGRAMS = frozenset({".py", ".ipynb", ".sh"})


@contextmanager
def collected(source: str | Path) -> Iterator[Collected]:
    """The files of ``source``; a temporary folder, if one was needed, goes when the block ends."""
    text = str(source)
    path = Path(text).expanduser()
    if is_bare_repository(path):
        text = f"file://{path.resolve()}"
    if _URL.match(text):
        with _workplace() as place:
            clone_own(text, place / "clone")
            yield _chosen(place / "clone", repository_name(text))
    elif path.is_dir():
        yield _chosen(path, path.resolve().name or "project")
    elif path.suffix in _PROGRAMS and path.is_file():
        raise SourceMissing(
            f"'{text}' is one file: a project is its folder.",
            way_out=f"Give the folder, and with `tesra run` the file: "
            f"`tesra run {shlex.quote(str(path.parent))} --entry {shlex.quote(path.name)}`.",
        )
    elif path.is_file():
        with _workplace() as place:
            yield _chosen(unpack(path, place / "content"), _ARCHIVE_SUFFIX.sub("", path.name))
    else:
        raise SourceMissing(
            f"There is no folder or file '{text}'.",
            way_out="Give a folder, a zip or tar file, or the address of a git repository.",
        )


def _chosen(root: Path, name: str) -> Collected:
    selection = select_files(root)
    files = [root / path for path in selection.files]
    return Collected(root, files, selection.size_bytes, name, selection.warnings)


@contextmanager
def _workplace() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tesra-import-") as folder:
        yield Path(folder)
