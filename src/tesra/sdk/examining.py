"""The import doctor on real files: on what an import of them would take."""

from collections.abc import Iterable
from pathlib import Path

from tesra.doctor.examine import examine, is_wanted
from tesra.doctor.report import Report
from tesra.sdk.collect import collected


def examine_source(source: str, *, entry: str | None = None) -> Report:
    """Look at a folder, an archive or a git repository: at what an import would take of it."""
    with collected(source) as found:
        paths = [path.relative_to(found.root) for path in found.files]
        return _examine_files(found.root, paths, entry)


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
