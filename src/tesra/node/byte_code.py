"""Byte code for an environment that its users cannot write to.

It is compiled by an interpreter that loads no site packages, since a package's ``.pth`` file
would run there; and taken over from another environment where that has the very same file:
installed by hard link, the same source is the same inode.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tesra.node.uv import UvFailed, run_reported

_CACHE = "__pycache__"


def adopt_byte_code(folder: Path, donors: Sequence[Path]) -> int:
    """Link what the donor that shares most packages has compiled already; returns how many files."""
    mine = _packages(folder)
    donor = max(donors, key=lambda other: len(mine & _packages(other)), default=None)
    if donor is None or not mine & _packages(donor):
        return 0
    adopted = 0
    library = folder / "venv" / "lib"
    for root, folders, files in os.walk(library):
        if _CACHE in folders:
            folders.remove(_CACHE)
        there = donor / "venv" / "lib" / Path(root).relative_to(library)
        if there.is_dir():
            adopted += _adopt_folder(
                Path(root), there, [name for name in files if name.endswith(".py")]
            )
    return adopted


async def compile_rest(folder: Path, report: Callable[[str], None]) -> None:
    """Compile what has no byte code yet, on all cores."""
    rest = await asyncio.to_thread(lambda: list(_uncompiled(folder / "venv" / "lib")))
    if not rest:
        return
    (folder / "uncompiled.txt").write_text("\n".join(rest) + "\n")
    interpreter = str((folder / "venv" / "bin" / "python").resolve())
    argv = [
        interpreter,
        "-I",
        "-S",
        "-m",
        "compileall",
        "-q",
        "-q",
        "-j",
        "0",
        "-i",
        "uncompiled.txt",
    ]
    environ = {"PATH": os.environ.get("PATH", os.defpath)}
    with contextlib.suppress(UvFailed):  # files that are no Python of this version stay as they are
        await run_reported(argv, cwd=folder, environ=environ, report=report)


def _uncompiled(library: Path) -> Iterator[str]:
    for root, folders, files in os.walk(library):
        if _CACHE in folders:
            folders.remove(_CACHE)
        compiled = Path(root) / _CACHE
        known: set[str] = set()
        if compiled.is_dir():
            known = {code.name.partition(".")[0] for code in compiled.iterdir()}
        for name in files:
            if name.endswith(".py") and name[:-3] not in known and "\n" not in root + name:
                yield f"{root}/{name}"


def _adopt_folder(here: Path, there: Path, names: Sequence[str]) -> int:
    compiled = there / _CACHE
    if not names or not compiled.is_dir():
        return 0
    adopted = 0
    for name in names:
        code = f"{name[:-3]}.{sys.implementation.cache_tag}.pyc"
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            if (here / name).stat().st_ino == (there / name).stat().st_ino:
                (here / _CACHE).mkdir(exist_ok=True)
                os.link(compiled / code, here / _CACHE / code)
                adopted += 1
    return adopted


def _packages(folder: Path) -> set[str]:
    return set((folder / "lock.txt").read_text().split("\n")) - {""}
