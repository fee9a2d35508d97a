"""What of a drive is garbage. Pure.

Kept is what any root reaches: the head, the versions within the history, what the trash refers
to, and every snapshot (projects, outputs of runs, checkpoints). A pack is garbage when none of
its chunks is reached.
"""

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

HISTORY = timedelta(days=90)
GRACE = timedelta(hours=24)  # between mark and sweep; undo works so long
UPLOAD = timedelta(hours=24)  # a pack that is younger may belong to what is not committed yet


@dataclass(frozen=True, slots=True)
class VersionAt:
    """A state of the drive's tree, from ``made_at`` until the next was made."""

    number: int
    made_at: datetime


def expired(
    versions: Sequence[VersionAt], *, head: int, trashed: Collection[int], keep_from: datetime
) -> set[int]:
    """Versions that are not kept: neither the head, nor in the trash, nor the drive's state at any
    time since ``keep_from``."""
    ordered = sorted(versions, key=lambda version: version.number)
    ended = {
        version.number: following.made_at for version, following in itertools.pairwise(ordered)
    }
    return {
        version.number
        for version in ordered
        if version.number != head
        and version.number not in trashed
        and ended.get(version.number, keep_from) < keep_from
    }


def is_garbage(chunk_ids: Iterable[bytes], live: Collection[bytes]) -> bool:
    """Whether nothing of a pack is reached; ``live`` is a set."""
    return not any(chunk_id in live for chunk_id in chunk_ids)


def history_from(now: datetime, asked: datetime | None) -> datetime:
    """From when on versions are kept: as the owner has asked, at most for ``HISTORY``."""
    oldest = now - HISTORY
    return oldest if asked is None else max(asked, oldest)
