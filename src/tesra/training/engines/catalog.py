"""AI engines are data: one TOML file each, with exact pins per version.

The operator adds one by putting such a file into the home's folder ``engines``; a file with the
name of one that ships with Tesra replaces it. docs/ENGINES.md has the format.
"""

import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Self

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from tesra.kit.errors import Invalid
from tesra.wire.site import EngineLink, EngineSpec


class EngineUnknown(Invalid):
    """There is no such AI engine."""


class EngineFileInvalid(Invalid):
    """A file that describes an AI engine cannot be used."""


def _pinned(line: str) -> str:
    try:
        requirement = Requirement(line)
    except InvalidRequirement as error:
        raise ValueError(f"'{line}' is not a requirement") from error
    if requirement.url is None and not any(pin.operator == "==" for pin in requirement.specifier):
        raise ValueError(f"'{line}' is not pinned: write '{requirement.name}==VERSION'")
    return line


def _range(text: str) -> str:
    try:
        SpecifierSet(text)
    except InvalidSpecifier as error:
        raise ValueError(f"'{text}' is not a range of Python versions, such as '>=3.10'") from error
    return text


def _inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"'{path}' leaves the environment")
    return path


Pins = list[Annotated[str, AfterValidator(_pinned)]]
Inside = Annotated[str, AfterValidator(_inside)]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Link(_Data):
    """A file of one package that another needs under a name of its own."""

    source: Inside = Field(alias="from")
    target: Inside = Field(alias="to")


class Build(_Data):
    """Requirements in place of the others on nodes with GPUs."""

    requirements: Pins


class Backend(_Data):
    """What a backend brings on top of its engine's version."""

    requirements: Pins = []
    announce: str | None = None
    env: dict[str, str] = {}
    gang_env: dict[str, str] = {}
    gpu: Build | None = None


class EngineVersion(_Data):
    """One version: what is installed, on which Python, and what its ranks are told."""

    python: Annotated[str, AfterValidator(_range)]
    requirements: Pins = []
    env: dict[str, str] = {}
    gang_env: dict[str, str] = {}
    gpu: Build | None = None
    links: list[Link] = []
    backends: dict[str, Backend] = {}


class Engine(_Data):
    """One engine with the versions on offer; ``announce`` is a way that the nodes know."""

    name: str
    title: str
    announce: str
    default: str
    default_backend: str | None = None
    env: dict[str, str] = {}
    gang_env: dict[str, str] = {}
    versions: dict[str, EngineVersion]

    @model_validator(mode="after")
    def _defaults_exist(self) -> Self:
        if self.default not in self.versions:
            raise ValueError(f"the default version {self.default} is not among the versions")
        for number, version in self.versions.items():
            try:
                Version(number)
            except InvalidVersion as error:
                raise ValueError(f"'{number}' is not a version") from error
            if version.backends and self.default_backend not in version.backends:
                raise ValueError(f"default_backend is not a backend of version {number}")
        return self

    @property
    def backends(self) -> list[str]:
        """Of the default version, the default first."""
        names = self.versions[self.default].backends
        return sorted(names, key=lambda name: (name != self.default_backend, name))


class EngineCatalog:
    """The engines that the operator offers."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = dict(engines)

    def engines(self) -> list[Engine]:
        """All of them, by name."""
        return [self._engines[name] for name in sorted(self._engines)]

    def backends_of(self, name: str | None) -> list[str]:
        """Of an engine's default version; none for what is no engine here."""
        return self._engines[name].backends if name in self._engines else []

    def resolve(self, text: str, backend: str | None = None) -> EngineSpec:
        """The spec for ``pytorch``, ``pytorch==2.13`` (the newest 2.13.x) or an exact version.

        ``backend``: one of the engine's, its default when not given. Raises ``EngineUnknown``.
        """
        name, _, wanted = (part.strip() for part in text.partition("=="))
        engine = self._engines.get(name.lower())
        if engine is None:
            offer = ", ".join(sorted(self._engines))
            raise EngineUnknown(
                f"There is no AI engine '{name}'.", way_out=f"Choose one of: {offer}."
            )
        number = _number(engine, wanted)
        version = engine.versions[number]
        chosen = _backend_name(engine, version, backend)
        extra = version.backends[chosen] if chosen else Backend()
        return EngineSpec(
            name=engine.name,
            version=number,
            backend=chosen,
            requirements=[*version.requirements, *extra.requirements],
            gpu_requirements=_gpu_requirements(version, extra),
            python=version.python,
            announce=extra.announce or engine.announce,
            env={**engine.env, **version.env, **extra.env},
            gang_env={**engine.gang_env, **version.gang_env, **extra.gang_env},
            links=[EngineLink(source=link.source, target=link.target) for link in version.links],
        )


def read_engines(added: Path | None = None) -> EngineCatalog:
    """The engines that ship with Tesra, and those of the operator's folder, which win.

    Raises ``EngineFileInvalid`` that names the file and what is wrong in it.
    """
    engines = {engine.name: engine for engine in _shipped()}
    if added is not None and added.is_dir():
        for path in sorted(added.glob("*.toml")):
            engines[path.stem] = _read(path.stem, _text_of(path), str(path))
    return EngineCatalog(engines)


def _shipped() -> Iterator[Engine]:
    for entry in files("tesra.training.engines").iterdir():
        if entry.name.endswith(".toml"):
            name = entry.name.removesuffix(".toml")
            yield _read(name, entry.read_text("utf-8"), entry.name)


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EngineFileInvalid(f"The engine file {path} cannot be read: {error}") from error


_CORRECT = "Correct the file, or move it out of that folder; docs/ENGINES.md has the format."


def _read(name: str, text: str, where: str) -> Engine:
    if not name.replace("-", "").isalnum() or name != name.lower():
        raise EngineFileInvalid(
            f"The engine file {where} is named after no engine.",
            way_out="Name it after the engine in small letters, such as 'pytorch.toml'.",
        )
    try:
        data = tomllib.loads(text)
        return Engine.model_validate({**data, "name": name})
    except tomllib.TOMLDecodeError as error:
        raise EngineFileInvalid(
            f"The engine file {where} is not TOML: {error}.", way_out=_CORRECT
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"]) or "engine"
        why = first["msg"].removeprefix("Value error, ")
        raise EngineFileInvalid(
            f"The engine file {where}: {place}: {why}.", way_out=_CORRECT
        ) from error


def _number(engine: Engine, wanted: str) -> str:
    if not wanted:
        return engine.default
    fitting = [v for v in engine.versions if v == wanted or v.startswith(f"{wanted}.")]
    if not fitting:
        offer = ", ".join(f"{engine.name}=={version}" for version in engine.versions)
        raise EngineUnknown(
            f"{engine.title} {wanted} is not on offer.", way_out=f"Choose one of: {offer}."
        )
    return max(fitting, key=Version)


def _backend_name(engine: Engine, version: EngineVersion, wanted: str | None) -> str | None:
    if not version.backends:
        if wanted:
            raise EngineUnknown(
                f"{engine.title} has no backends to choose from.", way_out="Leave --backend out."
            )
        return None
    name = wanted.lower() if wanted else engine.default_backend
    if name not in version.backends:
        offer = ", ".join(sorted(version.backends))
        raise EngineUnknown(
            f"{engine.title} has no backend '{wanted}'.", way_out=f"Choose one of: {offer}."
        )
    return name


def _gpu_requirements(version: EngineVersion, backend: Backend) -> list[str] | None:
    if version.gpu is None and backend.gpu is None:
        return None
    own = version.gpu.requirements if version.gpu else version.requirements
    return [*own, *(backend.gpu.requirements if backend.gpu else backend.requirements)]
