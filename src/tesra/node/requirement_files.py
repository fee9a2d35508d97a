"""What a project asks to be installed: requirement lines of its files, and nothing that is more than that.

A project is a stranger's: its options could send the installer to any index or file, and a
source build would run its code on the node, outside the sandbox. So only names, versions and
wheels by https are let through.
"""

import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from packaging.requirements import InvalidRequirement, Requirement

from tesra.kit.errors import Invalid

REQUIREMENTS = "requirements.txt"
PYPROJECT = "pyproject.toml"
CONDA_FILES = ("environment.yml", "environment.yaml")
LOCKED = "the lock of this run"
_SIZE_LIMIT_BYTES = 1 << 20
_LINE_LIMIT = 2000
_DEPTH_LIMIT = 5
_INCLUDE = re.compile(r"(?:-r|--requirement)(?:\s*=?\s*)(\S+)$")
_HASH = re.compile(r"\s--hash[=\s]\S+")
_COMMENT = re.compile(r"(^|\s)#.*$")
_PASSED_OVER = frozenset({"python", "pip", "setuptools", "wheel"})
_OF_THE_ENGINE = frozenset(  # as conda calls them: the engine brings its framework, its node CUDA
    {"pytorch", "tensorflow", "tensorflow-gpu", "keras", "jax", "jaxlib", "mxnet", "numpy"}
    | {"cudatoolkit", "cuda", "cudnn", "pytorch-cuda", "pytorch-mutex", "cpuonly", "mkl"}
)
_ITSELF = re.compile(r"(?:(?:-e|--editable)\s*=?\s*)?\./?(?:\[([\w\s,.\-]+)\])?")


class EnvironmentRefused(Invalid):
    """The requirements of this run cannot be installed."""


def project_requirements(project: Path) -> list[str]:
    """Lines of requirements.txt, else of pyproject's dependencies, else of environment.yml's pip part.

    Checked and cleaned; none when no file names any.
    """
    if (project / REQUIREMENTS).is_file():
        return list(_of_file(project, REQUIREMENTS, _DEPTH_LIMIT))
    if (project / PYPROJECT).is_file():
        found = [checked(line, PYPROJECT) for line in _of_pyproject(project)]
        if found:
            return found
    for name in CONDA_FILES:
        if (project / name).is_file():
            return [checked(line, name) for line in _of_conda(project, name)]
    return []


def checked_packages(packages: Sequence[str]) -> list[str]:
    """The packages named beside the project, held to the same rules."""
    return [checked(package, "the packages of this run") for package in packages]


class Locked(list[str]):
    """Requirement lines that are all there is: nothing is resolved."""


def locked_lines(lock: str) -> Locked:
    """The lines of a lock, each an exact version; raises ``EnvironmentRefused``."""
    lines = Locked(checked(line, LOCKED) for line in lock.splitlines() if line.strip())
    for line in lines:
        if "==" not in line and "@" not in line:
            raise EnvironmentRefused(
                f"'{line}' in {LOCKED} names no exact version.",
                way_out="Run the project anew with `tesra run`: its packages are resolved then.",
            )
    return lines


def checked(line: str, source: str) -> str:
    """The requirement in its normal form; raises ``EnvironmentRefused`` for anything else."""
    if line.startswith("-"):
        raise EnvironmentRefused(
            f"'{line}' in {source}: options are not taken from a project.",
            way_out="Keep to lines such as 'name==1.2'; which index is used is the node's own choice.",
        )
    try:
        requirement = Requirement(line)
    except InvalidRequirement as error:
        raise EnvironmentRefused(
            f"'{line}' in {source} is not a requirement: folders and files cannot be installed.",
            way_out="Name packages, such as 'name==1.2'; the project's own modules need no installing.",
        ) from error
    if requirement.url is not None and not requirement.url.startswith("https://"):
        raise EnvironmentRefused(
            f"'{line}' in {source}: only packages by name, or wheels by https, can be installed.",
            way_out="Name a released version of the package, such as 'name==1.2'.",
        )
    return str(requirement)


def _of_file(project: Path, name: str, depth: int) -> Iterator[str]:
    text = _text_of(project, name)
    for line in _joined_lines(text):
        include = _INCLUDE.fullmatch(line)
        itself = _ITSELF.fullmatch(line)
        if itself is not None:  # its modules are found without installing; what they need is not
            yield from (checked(x, PYPROJECT) for x in _of_pyproject(project, itself[1] or ""))
        elif include is None:
            yield checked(_HASH.sub("", line).strip(), name)
        elif depth == 0:
            raise EnvironmentRefused(f"{name}: requirement files include each other too deeply.")
        else:
            nested = Path(name).parent / include[1]
            yield from _of_file(project, str(nested), depth - 1)


def _joined_lines(text: str) -> Iterator[str]:
    """As pip reads them: a backslash joins lines, a hash after a space begins a comment."""
    lines = text.replace("\\\r\n", " ").replace("\\\n", " ").splitlines()
    if len(lines) > _LINE_LIMIT:
        raise EnvironmentRefused(f"More than {_LINE_LIMIT} lines of requirements are too many.")
    for line in lines:
        cleaned = _COMMENT.sub("", line).strip()
        if cleaned:
            yield cleaned


def _of_pyproject(project: Path, extras: str = "") -> list[str]:
    if not (project / PYPROJECT).is_file():
        return []
    try:
        table = tomllib.loads(_text_of(project, PYPROJECT)).get("project", {})
    except tomllib.TOMLDecodeError as error:
        raise EnvironmentRefused(f"{PYPROJECT} cannot be read: {error}.") from error
    found = _listed(table, "dependencies")
    optional = table.get("optional-dependencies", {})
    for extra in filter(None, (name.strip() for name in extras.split(","))):
        if extra not in optional:
            raise EnvironmentRefused(
                f"{PYPROJECT} has no extra '{extra}', which {REQUIREMENTS} asks for.",
                way_out=f"It has: {', '.join(optional) or 'none'}.",
            )
        found = found + _listed(optional, extra)
    return found


def _listed(table: dict[str, object], name: str) -> list[str]:
    found = table.get(name, [])
    if not isinstance(found, list) or not all(isinstance(line, str) for line in found):
        raise EnvironmentRefused(f"{PYPROJECT}: [project].{name} is not a list of requirements.")
    return found


def _of_conda(project: Path, name: str) -> list[str]:
    """The pip part. Of conda's own packages, those that a run has anyway are passed over."""
    try:
        data = yaml.safe_load(_text_of(project, name))
    except (yaml.YAMLError, RecursionError) as error:
        raise EnvironmentRefused(f"{name} cannot be read: {error}.") from error
    listed = data.get("dependencies") if isinstance(data, dict) else None
    packages: list[str] = []
    for item in listed if isinstance(listed, list) else []:
        match item:
            case {"pip": list(lines)} if len(item) == 1 and all(isinstance(x, str) for x in lines):
                packages += [line.strip() for line in lines]
            case str() if _conda_name(item) in _PASSED_OVER | _OF_THE_ENGINE:
                pass
            case _:
                raise _conda_refused(name, listed or [])
    return packages


def _conda_name(item: str) -> str:
    return re.split(r"[\s=<>!~]", item.partition("::")[2] or item, maxsplit=1)[0].lower()


def _conda_refused(name: str, listed: Sequence[object]) -> EnvironmentRefused:
    names = [_conda_name(item) for item in listed if isinstance(item, str)]
    foreign = ", ".join(found for found in names if found not in _PASSED_OVER | _OF_THE_ENGINE)
    return EnvironmentRefused(
        f"{name}: packages of conda cannot be installed here{f' ({foreign})' if foreign else ''}.",
        way_out="Move them under '- pip:' by their PyPI names, such as 'scikit-learn==1.7'. "
        "Python and the engine's own packages come with the engine: leave them out.",
    )


def _text_of(project: Path, name: str) -> str:
    """A file of the project itself: links that lead out of it are not followed."""
    path = (project / name).resolve()
    if not path.is_relative_to(project.resolve()) or not path.is_file():
        raise EnvironmentRefused(f"The requirements file '{name}' is not in the project.")
    if path.stat().st_size > _SIZE_LIMIT_BYTES:
        raise EnvironmentRefused(f"The requirements file '{name}' is too large.")
    return path.read_text(encoding="utf-8-sig", errors="replace")
