"""The folder that lets a script ``import tesra`` where nothing is installed.

It holds copies of the very files that an installed Tesra has: the top module and ``sdk/runtime``.
Its name is the hash of its content, so a run keeps the one it was started with when Tesra is
updated beneath it.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

_TOP = ("__init__.py", "keras.py", "lightning.py")
_PACKAGE = ("sdk", "runtime")


def runtime_folder(parent: Path) -> Path:
    """A folder with ``tesra/`` below ``parent``, made if it is not there; anyone may read it."""
    content = _content()
    digest = hashlib.sha256()
    for name, data in sorted(content.items()):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    folder = parent / digest.hexdigest()[:16]
    if not folder.is_dir():
        parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".runtime-", dir=parent))
        _write(made, content)
        try:
            made.rename(folder)  # whole or not at all
        except OSError:  # another agent of this machine was faster
            shutil.rmtree(made)
            if not folder.is_dir():
                raise
    return folder


def _content() -> Mapping[str, bytes]:
    top = files("tesra")
    package = top.joinpath(*_PACKAGE)
    content = {f"tesra/{name}": top.joinpath(name).read_bytes() for name in _TOP}
    content["tesra/sdk/__init__.py"] = b""
    for entry in package.iterdir():
        if entry.name.endswith(".py"):
            content["/".join(("tesra", *_PACKAGE, entry.name))] = entry.read_bytes()
    return content


def _write(folder: Path, content: Mapping[str, bytes]) -> None:
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o644)
    for root, _folders, _files in os.walk(folder):
        Path(root).chmod(0o755)
