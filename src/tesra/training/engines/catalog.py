"""AI engines are data: one TOML file each, with exact pins per version."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from tesra.kit.errors import Invalid
from tesra.wire.site import EngineSpec


class EngineUnknown(Invalid):
    """There is no such AI engine."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine with the versions on offer."""

    name: str
    title: str
    announce: str
    default: str
    versions: Mapping[str, Mapping[str, Any]]


class EngineCatalog:
    """The engines that the operator offers."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = dict(engines)

    def engines(self) -> list[Engine]:
        """All of them, by name."""
        return [self._engines[name] for name in sorted(self._engines)]

    def resolve(self, text: str) -> EngineSpec:
        """The spec for ``pytorch``, ``pytorch==2.13`` (the newest 2.13.x) or an exact version."""
        name, _, wanted = (part.strip() for part in text.partition("=="))
        engine = self._engines.get(name.lower())
        if engine is None:
            offer = ", ".join(sorted(self._engines))
            raise EngineUnknown(
                f"There is no AI engine '{name}'.", way_out=f"Choose one of: {offer}."
            )
        version = self._version(engine, wanted)
        data = engine.versions[version]
        return EngineSpec(
            name=engine.name,
            version=version,
            requirements=list(data["requirements"]),
            python=data["python"],
            announce=engine.announce,
            env=dict(data.get("env", {})),
        )

    @staticmethod
    def _version(engine: Engine, wanted: str) -> str:
        if not wanted:
            return engine.default
        fitting = [v for v in engine.versions if v == wanted or v.startswith(f"{wanted}.")]
        if not fitting:
            offer = ", ".join(f"{engine.name}=={version}" for version in engine.versions)
            raise EngineUnknown(
                f"{engine.title} {wanted} is not on offer.", way_out=f"Choose one of: {offer}."
            )
        return max(fitting, key=_version_key)


def read_engines() -> EngineCatalog:
    """The engines that ship with Tesra: every TOML file beside this module."""
    engines = {}
    for entry in files("tesra.training.engines").iterdir():
        if entry.name.endswith(".toml"):
            name = entry.name.removesuffix(".toml")
            data = tomllib.loads(entry.read_text("utf-8"))
            engines[name] = Engine(name=name, **data)
    return EngineCatalog(engines)


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
