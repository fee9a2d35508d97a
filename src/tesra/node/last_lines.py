"""The end of a log, for people."""

from pathlib import Path


def last_lines(path: Path, *, lines: int = 20, limit_bytes: int = 4000) -> str:
    """The end of a log as text, for a reason or a message."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - limit_bytes))
            tail = file.read(limit_bytes)
    except FileNotFoundError:
        return ""
    text = tail.decode("utf-8", errors="replace").replace("\0", "�")
    return "\n".join(text.rstrip().splitlines()[-lines:])
