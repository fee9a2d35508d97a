"""When each rank began to fail, as it notes itself: of ranks on several nodes, the first is the cause.

A rank that fails takes its connections with it only while its interpreter ends, and that takes a
while: one that fails because of it may be gone before. So a rank notes the moment at once
(``in_rank/sitecustomize``), in a file that the node made for it. The note is the script's to
write: it counts only if it has the right form and a time at which the gang ran.
"""

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tesra.node.sandbox import give
from tesra.node.workspace import AttemptFolders

_NOTE = re.compile(rb"(\d{1,20}) (\d{1,3})")
_NOTE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Failing:
    """``at``: seconds since the epoch; ``exit_code``: what the rank was about to end with."""

    at: float
    exit_code: int


def make_notes(folders: AttemptFolders, ranks: Sequence[int]) -> None:
    """The empty files, before any rank starts; the folder is there."""
    for rank in ranks:
        path = folders.failing_of(rank)
        path.write_bytes(b"")
        path.chmod(0o600)
        give(path)


def noted(folders: AttemptFolders, rank: int) -> Failing | None:
    """What the rank has noted; None if nothing that can be believed."""
    path = folders.failing_of(rank)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        match = _NOTE.fullmatch(os.pread(descriptor, _NOTE_BYTES, 0))
    finally:
        os.close(descriptor)
    if match is None:
        return None
    at, exit_code = int(match[1]) / 1e9, int(match[2])
    began = folders.params.lstat().st_mtime  # written just before the ranks start
    return Failing(at, exit_code) if began <= at <= time.time() and 0 < exit_code < 256 else None
