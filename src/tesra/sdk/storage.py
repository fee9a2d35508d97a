"""The verbs of how the drive is kept: health, audits, peers, alarms."""

import time
from collections.abc import Callable, Iterator

from tesra.sdk.connection import Connection
from tesra.wire.storage import (
    AlarmReport,
    AuditStand,
    Collection,
    CollectRequest,
    DrainRequest,
    DriveHealth,
    Replicas,
    RevokeRequest,
    StoragePeer,
    Undone,
)

_LOOK_S = 0.3


class StorageVerbs:
    """What ``Client`` can ask about storage."""

    connection: Connection

    def drive_health(
        self, path: str = "/", *, after: str | None = None, limit: int = 1000
    ) -> DriveHealth:
        """How many good copies there are, where, and when that was last proven."""
        query = {"path": path, "after": after, "limit": limit}
        return self.connection.get("/drive/health", DriveHealth, query)

    def drive_audit(
        self,
        *,
        timeout_s: float = 600.0,
        report: Callable[[AuditStand], None] = lambda _: None,
    ) -> AuditStand:
        """Every holder proves its copies now; returns when all have, or when the time is up."""
        asked = self.connection.post("/drive/audits", AuditStand).asked
        deadline = time.monotonic() + timeout_s
        while True:
            stand = self.connection.get("/drive/audits", AuditStand)
            stand = stand.model_copy(update={"asked": asked})
            report(stand)
            if stand.open == 0 or time.monotonic() > deadline:
                return stand
            time.sleep(_LOOK_S)

    def audit_stand(self) -> AuditStand:
        """How many copies owe an answer now."""
        return self.connection.get("/drive/audits", AuditStand)

    def drive_collect(self, *, keep_days: float | None = None, dry_run: bool = False) -> Collection:
        """Mark what nothing needs any more, delete what was marked a day ago or longer."""
        wanted = CollectRequest(keep_days=keep_days, dry_run=dry_run)
        return self.connection.post("/drive/collections", Collection, wanted)

    def drive_collect_undo(self) -> Undone:
        """Take all marks back."""
        answer = self.connection.send("DELETE", "/drive/collections")
        return Undone.model_validate_json(answer.content)

    def peers(self) -> list[StoragePeer]:
        """The storage peers that have joined."""
        return list(self.connection.pages("/peers", StoragePeer))

    def drain_peer(self, peer: str, *, undo: bool = False) -> StoragePeer:
        """Empty a peer (operator)."""
        return self.connection.post(f"/peers/{peer}/drain", StoragePeer, DrainRequest(undo=undo))

    def revoke_peer(self, peer: str, *, force: bool = False, undo: bool = False) -> StoragePeer:
        """Shut a peer out at once (operator)."""
        asked = RevokeRequest(force=force, undo=undo)
        return self.connection.post(f"/peers/{peer}/revoke", StoragePeer, asked)

    def drive_replicas(self, copies: int | None = None) -> int:
        """How many copies there shall be of what the drive holds; with ``copies``: from now on."""
        if copies is None:
            return self.connection.get("/drive/replicas", Replicas).copies
        return self.connection.put("/drive/replicas", Replicas, Replicas(copies=copies)).copies

    def alarms(self, *, everything: bool = False) -> Iterator[AlarmReport]:
        """The newest first; those that nobody has seen to, or all."""
        return self.connection.pages("/alarms", AlarmReport, query={"everything": everything})

    def acknowledge_alarm(self, alarm: str) -> AlarmReport:
        """Say that you have seen it (operator)."""
        return self.connection.post(f"/alarms/{alarm}/acknowledge", AlarmReport)
