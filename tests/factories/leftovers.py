"""Temporary folders that say whose they are, so that the next session clears what a killed one left."""

import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil

from tesra.db.embedded import EmbeddedPostgres
from tesra.kit.settings import Home

_OURS = re.compile(r"tesra-(?:net|test)-(\d+)-\w+")


def owned_prefix(kind: str) -> str:
    """The beginning of the name of a folder of this process, of the kind ``net`` or ``test``."""
    return f"tesra-{kind}-{os.getpid()}-"


def clear_leftovers(folder: Path | None = None) -> None:
    """Remove such folders of processes that are gone, their databases ended first."""
    for path in (folder or Path(tempfile.gettempdir())).glob("tesra-*"):
        owner = _OURS.fullmatch(path.name)
        if owner is None or psutil.pid_exists(int(owner[1])):
            continue
        with suppress(OSError):  # of another user, or another session was faster
            EmbeddedPostgres(Home(path / "home")).stop()
            shutil.rmtree(path)
