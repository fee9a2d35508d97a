"""Which engines have an environment on this node already, and how large it is."""

import contextlib
import json
import os
from pathlib import Path

from tesra.wire.site import WarmEngine


def warm_engines(environments: Path) -> tuple[WarmEngine, ...]:
    """By name, version and backend; of several environments of one engine the smallest, its own."""
    found: dict[tuple[str, str, str], WarmEngine] = {}
    for ready in environments.glob("*/ready"):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            about = json.loads(ready.read_text()).get("engine")
            if about is not None:
                engine = WarmEngine.model_validate(about)
                key = (engine.name, engine.version, engine.backend or "")
                if key not in found or engine.size_bytes < found[key].size_bytes:
                    found[key] = engine
    return tuple(found[key] for key in sorted(found))


def tree_size(folder: Path) -> int:
    """Bytes of the files below, each inode once."""
    seen: dict[tuple[int, int], int] = {}
    for root, _folders, files in os.walk(folder):
        for name in files:
            known = (Path(root) / name).lstat()
            seen[known.st_dev, known.st_ino] = known.st_size
    return sum(seen.values())
