"""From what the user called the entry to the command of one rank; looks at the workspace, changes nothing."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tesra.kit.errors import Invalid
from tesra.wire.parameters import CONFIG_FILE, DEFAULT_FORMAT, PLACEHOLDER

Parameter = str | int | float | bool

IN_RANK = Path(__file__).with_name("in_rank")  # what runs beside a script, in its sandbox
CALL_ENTRY = IN_RANK / "call_entry.py"
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_FOUND_LIMIT = 12


class EntryMissing(Invalid):
    """The project has no such entry."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the user set, how the script takes it, and the file that holds it too."""

    values: Mapping[str, Parameter]
    format: str = DEFAULT_FORMAT
    file: Path = Path("params.json")


def command_of(
    entry: str | Sequence[str],
    args: Sequence[str],
    params: Parameters,
    *,
    python: Path,
    workspace: Path,
) -> list[str]:
    """The argv of a rank, to be run in ``workspace``: parameters first, then the user's own ARGS.

    A list is a program with its arguments and stays as it is, followed by the same; ``python``
    in it is found through PATH, where the environment's comes first.
    """
    tail = [*parameter_arguments(params), *args]
    if not isinstance(entry, str):
        if not entry or not entry[0]:
            raise EntryMissing(
                "The entry is an empty list.", way_out="Give a program and its arguments."
            )
        return [*entry, *tail]
    return [str(python), *_python_arguments(entry.strip(), workspace), *tail]


def parameter_arguments(params: Parameters) -> list[str]:
    """The format's words for each parameter in the order given; once for all if it names ``{file}``.

    The format is cut into words before anything is put in, so a value stays within its word.
    """
    if params.format == "none" or not params.values:
        return []
    words = shlex.split(CONFIG_FILE if params.format == "file" else params.format)
    if "{file}" in params.format or params.format == "file":
        return [_put(word, {"file": str(params.file)}) for word in words]
    return [
        _put(word, {"name": name, "value": parameter_text(value)})
        for name, value in params.values.items()
        for word in words
    ]


def parameter_text(value: Parameter) -> str:
    """As a person would type it: ``true``, ``0.1``, ``adam``."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _put(word: str, values: Mapping[str, str]) -> str:
    """In one pass: what a value holds is never taken for a placeholder."""
    return PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), word)


def _python_arguments(entry: str, workspace: Path) -> list[str]:
    module, colon, target = entry.partition(":")
    if colon:
        if not (_DOTTED.fullmatch(module) and _DOTTED.fullmatch(target)):
            raise _missing(entry, workspace, "'module:function' needs a module and a function")
        _find_module(module, entry, workspace)
        return [str(CALL_ENTRY), entry]
    if _is_file(entry, workspace):
        return [str(PurePosixPath(entry))]
    if not entry.endswith(".py") and _DOTTED.fullmatch(entry):
        found = _find_module(entry, entry, workspace)
        if found.is_dir() and not (found / "__main__.py").is_file():
            raise _missing(entry, workspace, f"the package '{entry}' has no __main__.py")
        return ["-m", entry]
    raise _missing(entry, workspace, "there is no such file in the project")


def source_roots(workspace: Path) -> list[Path]:
    """``src``, where it holds packages and is none itself: what to add to the import path."""
    src = workspace / "src"
    packages = not (src / "__init__.py").exists() and any(src.glob("*/__init__.py"))
    return [src] if packages else []


def _is_file(entry: str, workspace: Path) -> bool:
    path = PurePosixPath(entry)
    if not entry or path.is_absolute() or ".." in path.parts:
        return False
    return (workspace / path).is_file()


def _find_module(module: str, entry: str, workspace: Path) -> Path:
    """The file or the package's folder of a module of the project, whose root may be ``src``."""
    for root in (workspace, *source_roots(workspace)):
        path = root.joinpath(*module.split("."))
        if path.with_name(f"{path.name}.py").is_file():
            return path.with_name(f"{path.name}.py")
        if path.is_dir():
            return path
    raise _missing(entry, workspace, f"the project has no module '{module}'")


def _missing(entry: str, workspace: Path, why: str) -> EntryMissing:
    found = sorted(
        str(path.relative_to(workspace))
        for depth in ("*.py", "*/*.py", "src/*/*.py")
        for path in workspace.glob(depth)
        if path.is_file() and not path.name.startswith(("_", "."))
    )
    names = ", ".join(found[:_FOUND_LIMIT]) + (", …" if len(found) > _FOUND_LIMIT else "")
    return EntryMissing(
        f"Entry '{entry}': {why}.",
        way_out=f"Python files found: {names}." if names else "The project holds no Python file.",
        found=found[:_FOUND_LIMIT],
    )
