"""Packs from the storage peers of this machine: read from their disks, and brought there first by
the swarm; the server gives what they have not, or not in time."""

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tesra.kit.errors import TesraError
from tesra.sdk.fetch import fetch_planned
from tesra.sdk.transfer import HttpDoor
from tesra.storage.progress import Report
from tesra.wire.drive import ReadPlan

PATIENCE_S = 15.0  # so long after the last pack that came, the next one is waited for
_ASKED_AT_ONCE = 2000
_LOOK_S = 0.05

_log = logging.getLogger(__name__)

Fetch = Callable[[HttpDoor, str, Path, Report], None]


class NearPacks:
    """A ``PackSource``; ``near`` and ``far`` count the bytes that came from peers here, and from
    the server."""

    def __init__(self, door: HttpDoor, folders: list[Path]) -> None:
        self._door = door
        self._folders = folders
        self._coming: set[str] = set()
        self._until = 0.0
        self._lock = threading.Lock()
        self.near = self.far = 0

    def prepare(self, plan: ReadPlan) -> None:
        """Have a peer here bring the packs that no peer here has."""
        packs = dict.fromkeys(chunk.pack for chunk in plan.chunks.values())
        lacking = [pack for pack in packs if self._find(pack) is None]
        peer = next(filter(None, map(_peer_of, reversed(self._folders))), None)
        if not lacking or peer is None:
            return
        try:
            for begin in range(0, len(lacking), _ASKED_AT_ONCE):
                asked = lacking[begin : begin + _ASKED_AT_ONCE]
                self._coming |= set(self._door.bring(peer, asked))
        except TesraError as error:
            _log.info("the peer beside this node brings nothing: %s", error.detail)
        self._until = time.monotonic() + PATIENCE_S

    def read_pack(self, pack_id: str, start: int, end: int) -> bytes:
        path = self._find(pack_id) or self._await(pack_id)
        if path is not None:
            try:
                with path.open("rb", buffering=0) as file:
                    found = os.pread(file.fileno(), end - start, start)
            except OSError:
                found = b""
            if len(found) == end - start:
                self._count(near=len(found))
                return found
        return self._from_afar(self._door.read_pack(pack_id, start, end))

    def read_again(self, pack_id: str, start: int, end: int) -> bytes:
        return self._from_afar(self._door.read_again(pack_id, start, end))

    def _await(self, pack_id: str) -> Path | None:
        while pack_id in self._coming and time.monotonic() < self._until:
            path = self._find(pack_id)
            if path is not None:
                self._until = time.monotonic() + PATIENCE_S
                return path
            time.sleep(_LOOK_S)
        return None

    def _find(self, pack_id: str) -> Path | None:
        paths = (folder / "packs" / pack_id[:2] / pack_id for folder in self._folders)
        return next((path for path in paths if path.is_file()), None)

    def _from_afar(self, data: bytes) -> bytes:
        self._count(far=len(data))
        return data

    def _count(self, *, near: int = 0, far: int = 0) -> None:
        with self._lock:
            self.near += near
            self.far += far


def near_fetch(home: Path | None) -> Fetch:
    """Fetches snapshots by way of the peers whose folders lie in the ``home``."""

    def fetch(door: HttpDoor, snapshot: str, dest: Path, report: Report) -> None:
        plan = door.plan(snapshot)
        folders = sorted(home.glob("peer-*")) if home is not None else []
        source = NearPacks(door, folders)
        source.prepare(plan)
        fetch_planned(source, plan, dest, report)
        _log.info("%s: %d bytes by peers here, %d by the server", snapshot, source.near, source.far)

    return fetch


def _peer_of(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / "peer.json").read_bytes())["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
