"""Which files of a folder belong to a project: what git would keep, without what is rebuilt anyway.

``.gitignore`` and ``.tesraignore`` count at every level, a deeper one over those above it.
"""

import fnmatch
import os
from dataclasses import dataclass, field
from pathlib import Path

from pathspec import GitIgnoreSpec

from tesra.kit.errors import Invalid, NotFound
from tesra.storage.tree import MAX_ENTRIES

IGNORE_FILES = (".gitignore", ".tesraignore")
ALWAYS_OUT = frozenset(
    {
        ".git",
        "__pycache__",
        ".venv",
        "venv",
        "node_modules",
        ".ipynb_checkpoints",
        ".tesra-fetch",
        "__MACOSX",
        ".DS_Store",
    }
)
_ALWAYS_OUT_SUFFIXES = (".pyc",)
_SECRETS = (".env", ".env.*", "id_rsa", "id_ed25519", "id_ecdsa", "id_dsa", "*.pem")
_NO_SECRETS = (".env.example", ".env.sample", ".env.template")


class FolderMissing(NotFound):
    """There is no such folder."""


class TooManyFiles(Invalid):
    """The folder holds more files than a project may."""


@dataclass(slots=True)
class Selection:
    """The chosen paths, relative to ``root``; empty folders are chosen as such."""

    root: Path
    files: list[Path] = field(default_factory=list)
    size_bytes: int = 0
    warnings: list[str] = field(default_factory=list)


def select_files(root: Path) -> Selection:
    """Walk ``root`` without following links. Warns of files that look like secrets."""
    if not root.is_dir():
        raise FolderMissing(f"'{root}' is no folder.")
    selection = Selection(root)
    _walk(selection, "", ())
    return selection


_Rules = tuple[tuple[str, GitIgnoreSpec], ...]


def _walk(selection: Selection, folder: str, above: _Rules) -> None:
    here = selection.root / folder
    rules = _with_rules_of(here, folder, above)
    with os.scandir(here) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    if not entries and folder:
        selection.files.append(Path(folder))
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        if _always_out(entry.name) or _ignored(f"{path}/" if is_folder else path, rules):
            continue
        if is_folder:
            _walk(selection, path, rules)
            continue
        _choose(selection, path, entry)


def _choose(selection: Selection, path: str, entry: os.DirEntry[str]) -> None:
    if len(selection.files) >= MAX_ENTRIES:
        raise TooManyFiles(f"'{selection.root}' holds more than {MAX_ENTRIES:,} files.")
    selection.files.append(Path(path))
    if entry.is_file(follow_symlinks=False):
        selection.size_bytes += entry.stat(follow_symlinks=False).st_size
    if _looks_secret(entry.name):
        selection.warnings.append(
            f"'{path}' looks like a secret and is included: add it to .tesraignore to leave it out"
        )


def _with_rules_of(here: Path, folder: str, above: _Rules) -> _Rules:
    lines: list[str] = []
    for name in IGNORE_FILES:
        file = here / name
        if file.is_file() and not file.is_symlink():
            lines += file.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines:
        return above
    base = f"{folder}/" if folder else ""
    return (*above, (base, GitIgnoreSpec.from_lines(lines)))


def _ignored(path: str, rules: _Rules) -> bool:
    for base, spec in reversed(rules):
        verdict = spec.check_file(path[len(base) :]).include
        if verdict is not None:
            return verdict
    return False


def _always_out(name: str) -> bool:
    return name in ALWAYS_OUT or name.endswith(_ALWAYS_OUT_SUFFIXES)


def _looks_secret(name: str) -> bool:
    return name not in _NO_SECRETS and any(fnmatch.fnmatchcase(name, p) for p in _SECRETS)
