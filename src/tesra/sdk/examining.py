"""The import doctor on real files: of what can be imported, and of a stored snapshot."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tesra.doctor.examine import examine, is_wanted
from tesra.doctor.report import Report
from tesra.sdk.client import Client
from tesra.sdk.collect import collected

_SNAPSHOT_FILES = 300  # each of them is a request
_AT_ONCE = 8


def examine_source(source: str, *, entry: str | None = None) -> Report:
    """Look at a folder, an archive or a git repository: at what an import would take of it."""
    with collected(source) as found:
        paths = [path.relative_to(found.root) for path in found.files]
        return _examine_files(found.root, paths, entry)


def examine_snapshot(client: Client, snapshot: str, *, entry: str | None = None) -> Report:
    """Look at a stored snapshot; of its Python files only the first few hundred are fetched."""
    files = [file for file in client.files(snapshot) if file.kind == "file"]
    wanted = [file.path for file in files if is_wanted(file.path, file.size_bytes)]
    wanted.sort(key=lambda path: (path.count("/"), path))
    with ThreadPoolExecutor(_AT_ONCE) as readers:
        fetched = readers.map(partial(client.read_file, snapshot), wanted[:_SNAPSHOT_FILES])
        contents = dict(zip(wanted, fetched, strict=False))
    return examine(contents, [file.path for file in files], entry=entry)


def _examine_files(root: Path, paths: Iterable[Path], entry: str | None) -> Report:
    names, contents = [], {}
    for path in paths:
        name, file = path.as_posix(), root / path
        if file.is_symlink() or not file.is_file():
            continue
        names.append(name)
        if is_wanted(name, file.stat().st_size):
            contents[name] = file.read_bytes()
    return examine(contents, names, entry=entry)
