"""What a folder and a path of the drive had in common at the last sync; kept beside, not inside.

Losing it loses nothing: the next sync compares contents, and takes what differs for a conflict.
"""

import fcntl
import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tesra.kit.errors import Conflict
from tesra.sdk.sync.local import Seen, Stamp

_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS paths (
    path TEXT PRIMARY KEY, base TEXT, there TEXT, here TEXT,
    size INTEGER, modified_ns INTEGER, changed_ns INTEGER, inode INTEGER, mode INTEGER
) WITHOUT ROWID;
"""


class AlreadySyncing(Conflict):
    """Another sync of this folder is running."""


@dataclass(slots=True)
class Memory:
    """``base``: common contents; ``there``: the listing of the drive's folder as ``there_id``."""

    base: dict[str, str] = field(default_factory=dict)
    there: dict[str, str] = field(default_factory=dict)
    there_id: str = ""
    here: dict[str, Seen] = field(default_factory=dict)


class SyncState:
    """One pair of folder and path; ``identity`` says in which drive and under which keys."""

    def __init__(self, folder: Path, *, local: Path, remote: str, url: str) -> None:
        name = hashlib.sha256(f"{url}\0{local}\0{remote}".encode()).hexdigest()[:32]
        self._path = folder / f"{name}.sqlite"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One sync of a pair at a time."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._path.with_suffix(".lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise AlreadySyncing(way_out="Wait for it, or end it.") from error
            yield

    def load(self, identity: str) -> Memory:
        with self._opened() as database:
            about = dict(database.execute("SELECT name, value FROM about"))
            rows = list(database.execute("SELECT * FROM paths"))
        if about.get("identity") != identity:
            return Memory()
        memory = Memory(there_id=about["there_id"])
        for path, base, there, here, *stamp in rows:
            if base is not None:
                memory.base[path] = base
            if there is not None:
                memory.there[path] = there
            if here is not None:
                memory.here[path] = Seen(here, Stamp(*stamp))
        return memory

    def save(self, identity: str, memory: Memory) -> None:
        """All of it or nothing."""
        paths = sorted({*memory.base, *memory.there, *memory.here})
        with self._opened() as database, database:
            database.execute("DELETE FROM about")
            database.execute("DELETE FROM paths")
            database.executemany(
                "INSERT INTO about VALUES (?, ?)",
                [("identity", identity), ("there_id", memory.there_id)],
            )
            database.executemany(
                "INSERT INTO paths VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (self._row(memory, path) for path in paths),
            )

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path)) as database:
            database.executescript(_SCHEMA)
            yield database

    def _row(self, memory: Memory, path: str) -> tuple[str | int | None, ...]:
        seen = memory.here.get(path)
        kept = seen if seen is not None and seen.stamp.settled else None
        stamp = kept.stamp if kept else None
        return (
            path,
            memory.base.get(path),
            memory.there.get(path),
            kept.content if kept else None,
            *(
                (stamp.size, stamp.modified_ns, stamp.changed_ns, stamp.inode, stamp.mode)
                if stamp
                else (None,) * 5
            ),
        )
