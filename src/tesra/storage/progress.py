"""How far a transfer is; reported often, cheap to make, shown by whoever asked."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """``done_bytes`` of file content are dealt with; ``moved_bytes`` went over the wire.

    The totals are ``None`` until they are known. ``path`` is the file that was touched last.
    """

    done_files: int
    done_bytes: int
    moved_bytes: int
    total_files: int | None = None
    total_bytes: int | None = None
    path: str = ""


Report = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """For callers that show nothing."""
