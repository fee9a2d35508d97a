"""Running uv as this machine is set up for it: its own variables first, then what pip is told here."""

import ast
import asyncio
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from uv import find_uv_bin

_PASSED = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "NETRC",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "SSL_CLIENT_CERT",
)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_NOT_PASSED = {  # they would send an environment elsewhere than we say
    *("UV_CACHE_DIR", "UV_NO_CACHE", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_BREAK_SYSTEM_PACKAGES"),
    *("UV_PREFIX", "UV_TARGET", "UV_PROJECT", "UV_PROJECT_ENVIRONMENT", "UV_WORKING_DIRECTORY"),
    *("UV_NO_BUILD", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_TORCH_BACKEND", "UV_COMPILE_BYTECODE"),
    *("UV_LINK_MODE", "UV_REQUIRE_HASHES", "UV_VENV_SEED", "UV_VENV_CLEAR"),
}
_INDEX_VARIABLES = ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_EXTRA_INDEX_URL")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_ADDRESS = re.compile(r"\b(?:https?|file)://[^\s'\"`)>]*")
_MACHINE_PATH = re.compile(r"(?<![\w./])/(?:[\w.@+\-]+/)+[\w.@+\-]*")
_KEPT_LINES = 30


class UvFailed(Exception):
    """uv ended with an error; ``words`` are its last lines, without paths and addresses."""

    def __init__(self, words: str) -> None:
        self.words = words
        super().__init__(words)


@dataclass(frozen=True, slots=True)
class PipSettings:
    """What pip is told on this machine, by its files and variables."""

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    cert: str | None = None

    def folders(self) -> list[Path]:
        """The find-links folders that exist: a missing one is a hard error for uv."""
        paths = [Path(link.removeprefix("file://")) for link in self.find_links]
        return [path for path in paths if path.is_absolute() and path.is_dir()]


@dataclass(slots=True)
class Uv:
    """uv with this machine's settings; ``cache`` is its own and on the environments' file system."""

    cache: Path
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    _pip: PipSettings | None = None

    async def run(
        self, arguments: Sequence[str], *, cwd: Path, report: Callable[[str], None]
    ) -> None:
        """Run it in ``cwd`` (never a project's folder, whose uv.toml would count); raises ``UvFailed``."""
        environ = uv_environ(self.environ, await self.pip(), self.cache)
        await run_reported([find_uv_bin(), *arguments], cwd=cwd, environ=environ, report=report)

    async def pip(self) -> PipSettings:
        """Read once, in a process of its own; without pip only its variables count."""
        if self._pip is None:
            self._pip = pip_settings(await _pip_config(), self.environ)
        return self._pip


def pip_settings(config: str, environ: Mapping[str, str]) -> PipSettings:
    """From the lines of ``pip config list``, with pip's variables above its files."""
    known: dict[str, str] = {}
    for line in config.splitlines():
        key, separator, value = line.partition("=")
        section, _, name = key.strip().partition(".")
        if separator and section == "global":
            known[name] = str(ast.literal_eval(value))
    for name in ("index-url", "extra-index-url", "find-links", "cert"):
        variable = environ.get("PIP_" + name.upper().replace("-", "_"))
        if variable:
            known[name] = variable
    return PipSettings(
        index_url=known.get("index-url"),
        extra_index_urls=tuple(known.get("extra-index-url", "").split()),
        find_links=tuple(known.get("find-links", "").split()),
        cert=known.get("cert"),
    )


def uv_environ(environ: Mapping[str, str], pip: PipSettings, cache: Path) -> dict[str, str]:
    """What uv gets: by variables, not arguments, since an address may carry a password."""
    proxies = {*_PROXIES, *(name.lower() for name in _PROXIES)}
    passed = {
        name: value
        for name, value in environ.items()
        if name in _PASSED
        or name in proxies
        or (name.startswith("UV_") and name not in _NOT_PASSED)
    }
    if pip.cert:
        passed.setdefault("SSL_CERT_FILE", pip.cert)
    if not any(name in passed for name in _INDEX_VARIABLES):
        if pip.index_url:
            passed["UV_DEFAULT_INDEX"] = pip.index_url
        if pip.extra_index_urls:
            passed["UV_EXTRA_INDEX_URL"] = " ".join(pip.extra_index_urls)
            passed.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")  # pip's way with several
    return passed | {"UV_CACHE_DIR": str(cache), "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}


async def run_reported(
    argv: Sequence[str], *, cwd: Path, environ: Mapping[str, str], report: Callable[[str], None]
) -> None:
    """Run a program, pass its lines on as they come; raises ``UvFailed``. Cancelling kills it."""
    # The ranks' user reads what is made here; uvloop, which Ray's actors run on, has no `umask=`.
    readable = ("/bin/sh", "-c", 'umask 022; exec "$@"', "sh")
    process = await asyncio.create_subprocess_exec(
        *readable,
        *argv,
        cwd=cwd,
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=1 << 20,
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        async for raw in process.stdout:
            line = without_machine(raw.decode(errors="replace").rstrip())
            if line:
                lines.append(line)
                report(line)
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code != 0:
        raise UvFailed("\n".join(lines[-_KEPT_LINES:]) or f"it ended with exit code {code}")


def without_machine(line: str) -> str:
    """The line without colours, and without this machine's paths and addresses."""
    return _MACHINE_PATH.sub("…", _ADDRESS.sub("…", _ANSI.sub("", line)))


async def _pip_config() -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pip", "config", "list"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    out, _ = await process.communicate()
    return out.decode(errors="replace") if process.returncode == 0 else ""
