"""A snapshot comes down: ranges of packs in parallel, every chunk verified, every file atomic.

The tree is not trusted: names and links were checked by ``storage.tree``, files are made through
folder descriptors that follow no link, so nothing outside of the destination can be touched.
"""

import os
import stat
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tesra.kit.errors import Conflict, Invalid
from tesra.sdk.landing import Landing
from tesra.storage.chunking import cut_stream
from tesra.storage.format import ChunkBroken, EpochKeys, open_chunk
from tesra.storage.packing import Place, coalesce
from tesra.storage.progress import Progress, Report
from tesra.storage.tree import (
    MAX_DEPTH,
    MAX_ENTRIES,
    Entries,
    Entry,
    File,
    Folder,
    Link,
    TreeBroken,
    link_stays_inside,
    read_node,
    split_ids,
)
from tesra.wire.drive import ReadPlan

_JOB_BYTES = 4 * 2**20
_WORKERS = 4
_JOBS_IN_FLIGHT = 6


class PackSource(Protocol):
    """Where ranges of packs come from; called from several threads."""

    def read_pack(self, pack_id: str, start: int, end: int) -> bytes: ...


@dataclass(slots=True)
class _Target:
    """A file on its way: ``left`` chunks are still to be written."""

    parts: tuple[str, ...]
    file: File
    left: int
    descriptor: int
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class _Piece:
    chunk_id: bytes
    target: _Target
    offset: int
