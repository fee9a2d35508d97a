"""A project's Python files, read within limits, and which of them import which."""

import posixpath
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from tesra.doctor.folding import UNKNOWN, Folder, Value
from tesra.doctor.report import Caution, Evidence, Scalar
from tesra.doctor.source import Call, Import, Source, read_source
from tesra.kit.saying import Said, said

MAX_FILES = 1000
MAX_FILE_BYTES = 512 * 1024
MAX_TOTAL_BYTES = 16 * 2**20
_LOOKUP_DEPTH = 4


@dataclass(slots=True)
class Project:
    """``sources`` by path; ``paths``: all files of the project, Python or not."""

    sources: dict[str, Source]
    paths: frozenset[str]
    texts: dict[str, str] = field(default_factory=dict)
    warnings: list[Caution] = field(default_factory=list)
    _imported: dict[str, list[str]] = field(default_factory=dict)

    def imported_by(self, source: Source) -> list[str]:
        """The project's own files that a file imports."""
        if source.path not in self._imported:
            files = [file for one in source.imports for file in self.local_files(source, one)]
            self._imported[source.path] = list(dict.fromkeys(files))
        return self._imported[source.path]

    def local_files(self, source: Source, found: Import) -> list[str]:
        """The project's own files that an import loads; none when it is not the project's."""
        bases = _bases(source.path, found)
        files: list[str] = []
        for base in bases:
            module = posixpath.join(base, found.module.replace(".", "/")) if found.module else base
            files += self._module(module)
            for name in found.names:
                files += self._module(posixpath.join(module, name))
            if files:
                break
        return list(dict.fromkeys(files))

    def is_local(self, source: Source, found: Import) -> bool:
        """Whether an import means the project itself; a folder without ``__init__`` counts too."""
        if found.level or self.local_files(source, found):
            return True
        root = found.module.partition(".")[0]
        return any(
            path.startswith(f"{posixpath.join(base, root)}/") and path.endswith((".py", ".so"))
            for base in _bases(source.path, found)
            for path in self.paths
        )

    def closure(self, file: str) -> list[Source]:
        """A file and all that it imports of the project, itself first."""
        seen = {file: None}
        waiting = [file]
        while waiting:
            for path in self.imported_by(self.sources[waiting.pop(0)]):
                if path not in seen:
                    seen[path] = None
                    waiting.append(path)
        return [self.sources[path] for path in seen]

    def _module(self, path: str) -> Iterator[str]:
        normal = posixpath.normpath(path)
        for file in (f"{normal}.py", posixpath.join(normal, "__init__.py")):
            clean = file.removeprefix("./")
            if clean in self.sources:
                yield clean


@dataclass(slots=True)
class Code:
    """The files that a run executes, as far as imports tell, with the defaults of its options."""

    project: Project
    sources: Sequence[Source]
    defaults: Mapping[str, Scalar] = field(default_factory=dict)
    _folders: dict[str, Folder] = field(default_factory=dict)

    def calls(self) -> Iterator[tuple[Source, Call]]:
        for source in self.sources:
            for call in source.calls:
                yield source, call

    def folder(self, source: Source, depth: int = 0) -> Folder:
        """Folds this file's expressions, and the names that it imports from others."""
        if depth:
            return Folder(source, self.defaults, lambda name: self._lookup(source, name, depth))
        if source.path not in self._folders:
            self._folders[source.path] = Folder(
                source, self.defaults, lambda name: self._lookup(source, name, 0)
            )
        return self._folders[source.path]

    def _lookup(self, source: Source, name: str, depth: int) -> Value:
        """``config.OUT``, where ``config`` is a file of the project."""
        if depth >= _LOOKUP_DEPTH:
            return UNKNOWN
        level = len(name) - len(name.lstrip("."))
        parts = name[level:].split(".")
        for cut in range(len(parts) - 1, 0, -1):
            found = Import(".".join(parts[:cut]), 0, level)
            for file in self.project.local_files(source, found):
                return self.folder(self.project.sources[file], depth + 1).binding(
                    ".".join(parts[cut:])
                )
        return UNKNOWN


def read_project(contents: Mapping[str, bytes], paths: Collection[str]) -> Project:
    """Read the Python files among ``contents`` (paths with slashes), smallest depth first."""
    sources: dict[str, Source] = {}
    warnings: list[Caution] = []
    total = 0
    files = [path for path in contents if path.endswith(".py")]
    for path in sorted(files, key=lambda path: (path.count("/"), path)):
        size = len(contents[path])
        total += size
        if len(sources) >= MAX_FILES or size > MAX_FILE_BYTES or total > MAX_TOTAL_BYTES:
            continue
        source = sources[path] = read_source(path, contents[path])
        if source.error:
            text = said(f"can't be read as Python: {source.error}")
            warnings.append(Caution("unreadable", text, path, source.error_line))
    every = frozenset(paths) | frozenset(contents)
    left_out = sum(path.endswith(".py") for path in every) - len(sources)
    if left_out:
        text = said(f"{left_out} Python files were not looked at: too many, or too large")
        warnings.append(Caution("limit", text))
    notebook = min((path for path in every if path.endswith(".ipynb")), default=None)
    if notebook and not sources:
        text = said(
            f"{notebook} is a notebook: `jupyter nbconvert --to script` makes a Python file of it"
        )
        warnings.append(Caution("limit", text))
    texts = {
        path: content.decode("utf-8-sig", "replace")
        for path, content in contents.items()
        if path not in sources and not path.endswith(".py")
    }
    return Project(sources, every, texts, warnings)


def evidence(source: Source, line: int, text: Said) -> Evidence:
    return Evidence(source.path, line, text)


def _bases(path: str, found: Import) -> list[str]:
    """The folders that an import may start from: its own, the project's top and ``src``."""
    own = PurePosixPath(path).parent
    if found.level:
        for _ in range(found.level - 1):
            own = own.parent
        return [str(own)]
    return list(dict.fromkeys([str(own), ".", "src"]))
