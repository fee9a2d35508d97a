"""Engine environments: built once for each set of requirements, then shared and never changed.

An environment is whole if and only if its ``ready`` file is there: it is written last, after
everything else has reached the disk. See docs/adr/0003-environments.md.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from tesra.node.byte_code import adopt_byte_code, compile_rest
from tesra.node.requirement_files import (
    LOCKED,
    EnvironmentRefused,
    Locked,
    checked_packages,
    locked_lines,
    project_requirements,
)
from tesra.node.torch_build import torch_build
from tesra.node.uv import Uv, UvFailed, without_machine
from tesra.node.warm import tree_size, warm_engines
from tesra.wire.site import EngineSpec, WarmEngine

_LAYOUT = 1  # part of the key: raised when what is built from the same requirements changes
_LOCK_POLL_S = 0.1
_SOURCE_BUILD_WORDS = ("building source distributions is disabled", "no usable wheels", "no-build")

__all__ = ["Environment", "EnvironmentBuilder", "EnvironmentRefused"]


@dataclass(frozen=True, slots=True)
class Environment:
    """A ready virtual environment. ``lock``: every package that is in it, as exact requirements.

    ``bases``: the folders outside ``root`` that its interpreter needs. ``packages``: where its
    packages are.
    """

    root: Path
    python: Path
    key: str
    lock: str
    bases: tuple[Path, ...] = ()

    @property
    def packages(self) -> Path:
        return next(self.root.glob("lib/python3*/site-packages"), self.root)


class EnvironmentBuilder:
    """Builds below ``cache``, which several processes may share; ``gpu`` decides which builds."""

    def __init__(self, cache: Path, *, gpu: bool) -> None:
        self._environments = cache / "environments"
        self._uv = Uv(cache / "uv")
        self._gpu = gpu
        self._warm: tuple[WarmEngine, ...] = ()
        self._warm_at = 0  # when the folder had last changed as that was read

    async def ensure(
        self,
        engine: EngineSpec,
        packages: Sequence[str],
        project: Path,
        report: Callable[[str], None],
        *,
        lock: str | None = None,
    ) -> Environment:
        """The environment, built if need be. ``report`` gets lines of progress, in the loop's thread.

        With ``lock`` it holds exactly the packages of these lines. Raises ``EnvironmentRefused``.
        Cancelling ends the build; the next one clears the rubble.
        """
        wanted = self._wanted(engine, packages, project)
        key = self._key(engine, wanted)
        found = _read(self._environments / key, key)
        if lock is not None and (found is None or found.lock.split() != lock.split()):
            wanted = Locked(locked_lines(lock))
            key = self._key(engine, [LOCKED, *wanted])
            found = _read(self._environments / key, key)
        if found is not None:
            return found
        async with _only_one(self._environments, report):
            found = _read(self._environments / key, key)
            return found or await self._build(engine, wanted, key, report)

    def is_warm(self, engine: EngineSpec, packages: Sequence[str], project: Path) -> bool:
        """Whether ``ensure`` would return at once."""
        key = self._key(engine, self._wanted(engine, packages, project))
        return _read(self._environments / key, key) is not None

    def warm(self) -> tuple[WarmEngine, ...]:
        """The engines that have an environment here; quick when nothing has been built since."""
        try:
            changed_at = self._environments.stat().st_mtime_ns
        except FileNotFoundError:
            return ()
        if changed_at != self._warm_at:
            self._warm, self._warm_at = warm_engines(self._environments), changed_at
        return self._warm

    def _wanted(self, engine: EngineSpec, packages: Sequence[str], project: Path) -> list[str]:
        """The engine's pins first: they hold for the project's requirements, resolved together."""
        pins = engine.gpu_requirements if self._gpu else None
        own = engine.requirements if pins is None else pins
        return [*own, *project_requirements(project), *checked_packages(packages)]

    def _key(self, engine: EngineSpec, wanted: Sequence[str]) -> str:
        python = [engine.python, platform.python_version(), sys.base_prefix]
        parts: list[Any] = [
            _LAYOUT,
            platform.machine(),
            platform.libc_ver(),
            python,
            self._gpu,
            sorted(set(wanted)),
        ]
        parts += [link.model_dump() for link in engine.links]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    async def _build(
        self, engine: EngineSpec, wanted: Sequence[str], key: str, report: Callable[[str], None]
    ) -> Environment:
        folder = self._environments / key
        if folder.exists():  # a build that was cut off
            await asyncio.to_thread(shutil.rmtree, folder)
        folder.mkdir(mode=0o755)
        report(f"Building the environment of {engine.name} {engine.version}.")
        began = time.monotonic()
        try:
            await self._install(engine, wanted, folder, report)
        except UvFailed as error:
            await asyncio.to_thread(shutil.rmtree, folder)
            raise _refused(error.words) from error
        await asyncio.to_thread(_seal, folder, engine)
        report(f"The environment is ready after {time.monotonic() - began:.1f} s.")
        built = _read(folder, key)
        assert built is not None, "a sealed environment can be read"
        return built

    async def _install(
        self, engine: EngineSpec, wanted: Sequence[str], folder: Path, report: Callable[[str], None]
    ) -> None:
        """Interpreter, lock, packages, byte code. Nothing of a package is run on the way."""
        await self._create(engine, folder, report)
        pins, torch = await torch_build(self._uv, wanted, gpu=self._gpu)
        (folder / "wanted.txt").write_text("\n".join([*wanted, *pins]) + "\n")
        (folder / "lock.txt").touch()
        if isinstance(wanted, Locked):
            (folder / "lock.txt").write_text("\n".join(wanted) + "\n")
        elif wanted:
            compiling = ["pip", "compile", "wanted.txt", "--output-file", "lock.txt", "--quiet"]
            compiling += [
                "--no-header",
                "--no-annotate",
                "--no-build",
                "--python",
                "venv/bin/python",
            ]
            await self._uv.run([*compiling, *torch], cwd=folder, report=report)
        if wanted:
            installing = ["pip", "install", "--requirements", "lock.txt", "--no-deps", "--no-build"]
            installing += ["--python", "venv/bin/python", "--link-mode", "hardlink"]
            await self._uv.run([*installing, *torch], cwd=folder, report=report)
            _link(folder, engine)
        await asyncio.to_thread(adopt_byte_code, folder, self._sealed())
        await compile_rest(folder, report)

    async def _create(
        self, engine: EngineSpec, folder: Path, report: Callable[[str], None]
    ) -> None:
        creating = ["venv", "--quiet", "--no-project", "--python", _interpreter(engine), "venv"]
        try:
            await self._uv.run(creating, cwd=folder, report=report)
        except UvFailed as error:
            raise UvFailed(
                f"{engine.name} {engine.version} needs Python {engine.python}; this node has "
                f"{platform.python_version()}, and no other could be found or fetched:\n{error.words}"
            ) from error

    def _sealed(self) -> list[Path]:
        return [ready.parent for ready in self._environments.glob("*/ready")]


@contextlib.asynccontextmanager
async def _only_one(folder: Path, report: Callable[[str], None]) -> AsyncIterator[None]:
    """One build at a time in this cache. Tries again and again, so that cancelling leaves no lock."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        told = False
        while not _locked(descriptor):
            if not told:
                report("Waiting: another environment is being built on this node.")
                told = True
            await asyncio.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(folder: Path, key: str) -> Environment | None:
    try:
        ready = json.loads((folder / "ready").read_text())
        lock = (folder / "lock.txt").read_text()
    except FileNotFoundError:
        return None
    root = folder / "venv"
    bases = tuple(Path(base) for base in ready["bases"])
    return Environment(root=root, python=root / "bin" / "python", key=key, lock=lock, bases=bases)


def _link(folder: Path, engine: EngineSpec) -> None:
    """The links that the engine asks for, where the file to link to is there."""
    packages = next((folder / "venv").glob("lib/python3*/site-packages"))
    for link in engine.links:
        target = packages / link.target
        found = min(packages.glob(link.source), default=None)
        if found is None:
            raise UvFailed(
                f"{engine.name} {engine.version}: there is no file {link.source} to link."
            )
        if not target.exists():
            target.symlink_to(os.path.relpath(found, target.parent))


def _seal(folder: Path, engine: EngineSpec) -> None:
    """Everything to the disk, then the ``ready`` file, then that too."""
    about = {
        "bases": _bases(folder),
        "engine": {
            "name": engine.name,
            "version": engine.version,
            "backend": engine.backend,
            "size_bytes": tree_size(folder),
        },
    }
    os.sync()
    with (folder / "ready").open("w") as ready:
        json.dump(about, ready)
        ready.flush()
        os.fsync(ready.fileno())
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.utime(folder.parent)  # tells those who list what is warm, in other processes too


def _bases(folder: Path) -> list[str]:
    home = Path((folder / "venv" / "bin" / "python").resolve()).parent.parent
    return [] if home.is_relative_to("/usr") else [str(home)]


def _interpreter(engine: EngineSpec) -> str:
    """This node's own if the engine takes it, else what uv can find or fetch."""
    if SpecifierSet(engine.python).contains(platform.python_version(), prereleases=True):
        return str(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
    return engine.python


def _refused(words: str) -> EnvironmentRefused:
    if any(said in words.lower() for said in _SOURCE_BUILD_WORDS):
        return EnvironmentRefused(
            f"A requirement has no ready-made wheel for this node:\n{words}",
            way_out="Nodes install wheels only, since building a package from source would run its "
            "code outside the sandbox: choose a version that has a wheel.",
        )
    together = " together" if "no solution" in words.lower() else ""
    return EnvironmentRefused(
        f"The requirements cannot be installed together:\n{without_machine(words).rstrip('.')}."
        if together
        else f"The requirements cannot be installed:\n{without_machine(words).rstrip('.')}.",
        way_out="Change requirements.txt, or the packages of this run: the engine's own pins hold."
        if together
        else "See to it that what requirements.txt names can be had; if it can, try again later.",
    )
