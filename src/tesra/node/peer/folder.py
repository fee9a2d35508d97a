"""A storage peer's packs on its disk: ``packs/ab/<pack id>``; what is on its way lies in ``incoming``.

A pack has its final name only when it is whole and fsynced. All calls block: use threads.
"""

import contextlib
import errno
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tesra.crypto.keys import sync_folder
from tesra.kit.errors import Unavailable
from tesra.kit.ids import PeerId, new_id
from tesra.storage.merkle import PackTree

_ID_CHARACTERS = 64
_QUARANTINED = 8  # bad copies that are kept to be looked at
_Seen = tuple[int, int, int]


class PeerFull(Unavailable):
    """There is no room for this on the peer's disk."""


class PackFolder:
    """``root`` is the peer's; a gateway's ``packs`` are written to by its server as well."""

    def __init__(self, root: Path, capacity_bytes: int, *, identity: Path | None = None) -> None:
        """``identity``: a file elsewhere that keeps who this peer is when the folder is lost."""
        self._root = root
        self._capacity_bytes = capacity_bytes
        self._identity = identity
        self._looking = threading.Lock()
        self._known: dict[str, _Seen] = {}
        self.packs = root / "packs"
        self.incoming = root / "incoming"
        self._make()

    def _make(self) -> None:
        """The folders; a disk may be emptied under a running peer."""
        for folder in (self._root, self.packs, self.incoming):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def capacity_bytes(self) -> int:
        return self._capacity_bytes

    def peer_id(self) -> PeerId:
        """Who this peer is; made once."""
        own = self._root / "peer.json"
        places = [own] if self._identity is None else [self._identity, own]
        known = [found for path in places if (found := _read_id(path)) is not None]
        peer = known[0] if known else PeerId(new_id("peer"))
        for path in places:
            if _read_id(path) != peer:
                _write_id(path, peer)
        return peer

    def home_of(self, pack_id: str) -> Path:
        """The folder that holds the pack when it is whole."""
        return self.packs / pack_id[:2]

    def holds(self, tree: PackTree) -> bool:
        """Whether the pack lies here whole, by name and size."""
        try:
            return (self.home_of(tree.pack_id) / tree.pack_id).stat().st_size == tree.size_bytes
        except FileNotFoundError:
            return False

    def held(self) -> list[str]:
        """Every pack that is here."""
        return sorted(
            path.name for path in self.packs.glob("*/*") if len(path.name) == _ID_CHARACTERS
        )

    def lacks_bytes(self) -> int:
        """How much of what is contributed the disk has no room for now."""
        disk = os.statvfs(self._root)
        used = sum(size for _, size in self._sizes())
        return max(0, self._capacity_bytes - used - disk.f_bavail * disk.f_frsize)

    def require_room(self, tree: PackTree) -> None:
        """Raises ``PeerFull`` when the pack would not fit into what is contributed, or on the disk."""
        self._make()
        used = sum(size for _, size in self._sizes())
        disk = os.statvfs(self._root)
        if used + tree.size_bytes > self._capacity_bytes:
            raise PeerFull(f"{used} of {self._capacity_bytes} contributed bytes are used.")
        if disk.f_bavail * disk.f_frsize < 2 * tree.size_bytes:
            raise PeerFull("The disk is full.")

    def keep(self, tree: PackTree) -> None:
        """Make a pack that has come in whole durable under its name; again is harmless.

        The name in ``incoming`` stays, so that the swarm's open file keeps its path.
        """
        come, home = self.incoming / tree.pack_id, self.home_of(tree.pack_id)
        with self.disk_words():
            if not home.exists():
                home.mkdir(mode=0o700, exist_ok=True)
                sync_folder(self.packs)
            descriptor = os.open(come, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            (home / tree.pack_id).unlink(missing_ok=True)  # one that was cut short
            (home / tree.pack_id).hardlink_to(come)
            sync_folder(home)
            self.note(tree.pack_id)

    @contextlib.contextmanager
    def disk_words(self) -> Iterator[None]:
        """A disk without room is said to be full."""
        try:
            yield
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise PeerFull("The disk is full.") from error
            raise

    def note(self, pack_id: str) -> None:
        """The pack is good as it lies here now: what becomes of it from now on is seen."""
        with self._looking:
            self._known[pack_id] = _seen(self.home_of(pack_id) / pack_id)

    def note_new(self, pack_id: str) -> None:
        """The same for a pack that was not seen before."""
        if pack_id not in self._known:
            self.note(pack_id)

    def look(self) -> tuple[list[str], list[str]]:
        """Packs whose files somebody has written to, and those that somebody has taken away, since
        the last look, or since they were noted. It reads no content."""
        with self._looking:
            files = [p for p in self.packs.glob("*/*") if len(p.name) == _ID_CHARACTERS]
            found = {path.name: _seen(path) for path in files}
            before, self._known = self._known, found
        changed = [name for name, seen in found.items() if before.get(name, seen) != seen]
        return sorted(changed), sorted(before.keys() - found.keys())

    def clear_incoming(self, pack_id: str) -> None:
        """What came in of a pack is not needed under that name any more."""
        (self.incoming / pack_id).unlink(missing_ok=True)

    def drop(self, pack_id: str) -> None:
        """Delete a pack; none there is no error."""
        self.clear_incoming(pack_id)
        with self._looking:
            self._known.pop(pack_id, None)
            (self.home_of(pack_id) / pack_id).unlink(missing_ok=True)

    def quarantine(self, pack_id: str) -> None:
        """A bad copy goes out of the way, for who wants to look at it; the oldest make room."""
        self.clear_incoming(pack_id)
        aside = self._root / "quarantine"
        aside.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError), self._looking:
            self._known.pop(pack_id, None)
            (self.home_of(pack_id) / pack_id).rename(aside / pack_id)
            sync_folder(self.home_of(pack_id))
        kept = sorted(aside.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[_QUARANTINED:]:
            path.unlink()

    def last_scrubbed(self) -> str:
        """The pack that was looked through last; empty before the first."""
        try:
            return self._scrub_mark.read_text()
        except FileNotFoundError:
            return ""

    def note_scrubbed(self, pack_id: str) -> None:
        self._scrub_mark.write_text(pack_id)

    def scrub_is_due(self, pause_s: float) -> bool:
        """Whether the last pack was looked through so long ago; a restart does not begin anew."""
        try:
            return time.time() - self._scrub_mark.stat().st_mtime >= pause_s
        except FileNotFoundError:
            return True

    @property
    def _scrub_mark(self) -> Path:
        return self._root / "scrubbed"

    def _sizes(self) -> Iterator[tuple[str, int]]:
        for path in self.packs.glob("*/*"):
            try:
                yield path.name, path.stat().st_size
            except FileNotFoundError:
                continue


def _read_id(path: Path) -> PeerId | None:
    try:
        return PeerId(json.loads(path.read_text())["id"])
    except (FileNotFoundError, ValueError, KeyError):
        return None


def _seen(path: Path) -> _Seen:
    """What changes when somebody writes to the file."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return 0, 0, 0
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _write_id(path: Path, peer: PeerId) -> None:
    draft = path.with_suffix(".new")
    with draft.open("w") as file:
        json.dump({"id": peer}, file)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    sync_folder(path.parent)
