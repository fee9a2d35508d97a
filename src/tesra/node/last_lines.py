"""The end of a log, for people."""

import re
from pathlib import Path

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][A-Z0-9])|[\x01-\x08\x0b-\x1f]"
)  # a terminal's colours, titles and bells


def last_lines(path: Path, *, lines: int = 20, limit_bytes: int = 4000) -> str:
    """The end of a log as text, for a reason or a message; a terminal's colours are left out."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - limit_bytes))
            tail = file.read(limit_bytes)
    except FileNotFoundError:
        return ""
    text = tail.decode("utf-8", errors="replace").replace("\0", "�")
    return "\n".join(map(_shown, text.rstrip().split("\n")[-lines:]))


def _shown(line: str) -> str:
    """What a terminal shows of it in the end: progress that is written over itself is there once."""
    return _ESCAPES.sub("", line.rstrip().rpartition("\r")[2])
