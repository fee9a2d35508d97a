"""Tiny wheels and source archives, so that environments are built without any index."""

import io
import tarfile
import zipfile
from pathlib import Path


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    requires: tuple[str, ...] = (),
    files: dict[str, str] | None = None,
) -> Path:
    """A pure wheel whose module says its version; ``files`` are put beside it."""
    info = f"{name}-{version}.dist-info"
    content = {f"{name}.py": f"version = {version!r}\n", **(files or {})}
    content[f"{info}/METADATA"] = "\n".join(
        ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        + [f"Requires-Dist: {line}" for line in requires]
    )
    content[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*content, f"{info}/RECORD"])
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, text in content.items():
            archive.writestr(inner, text)
    return path


def make_source_archive(folder: Path, name: str, version: str = "1.0") -> Path:
    """A source distribution whose build would run ``setup.py``."""
    path = folder / f"{name}-{version}.tar.gz"
    texts = {
        "setup.py": "raise SystemExit('the build ran')\n",
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    }
    with tarfile.open(path, "w:gz") as archive:
        for inner, text in texts.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{inner}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path
