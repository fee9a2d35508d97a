"""Storage peers, the health of what they keep, and alarms, over HTTP."""

from datetime import datetime

from pydantic import Field

from tesra.wire.common import Answer, Wire


class StoragePeer(Answer):
    """A peer that has joined. ``state``: ``online``, ``offline`` (it has not spoken lately),
    ``contained`` (it speaks, and does not show what it is asked for) or ``failed`` (it has shown
    something else than it was given), or ``revoked``; ``draining``: it is being emptied; ``site``:
    where it stands, if that was said."""

    id: str
    name: str
    state: str
    owner: str
    machine: str
    site: str = ""
    gateway: bool
    draining: bool
    capacity_bytes: int
    used_bytes: int
    copies: int
    last_seen: datetime


class AuditStand(Answer):
    """Copies that were challenged, those that owe an answer, and those that are overdue with it."""

    asked: int = 0
    open: int = 0
    stalled: int = 0


class FileHealth(Answer):
    """How well a file is kept: by the worst of the packs that it needs.

    ``copies``: good ones at holders that answer, on so many ``machines``; ``away``: more with
    peers that do not answer now; ``last_proof``: when all of them had been proven last, null
    before. ``state``: ``good``, ``degraded`` (fewer copies than wanted, or two on one machine),
    ``offline`` (there are good copies, and no holder answers now) or ``locked`` (no good copy is
    left).
    """

    path: str
    size_bytes: int
    copies: int
    machines: int
    last_proof: datetime | None
    state: str
    away: int = 0


class DriveHealth(Answer):
    """The files below a path; ``words`` say how well all of them are kept, ``wanted``: how many
    copies of each there shall be."""

    path: str
    wanted: int
    copies: int
    machines: int
    last_proof: datetime | None
    state: str
    away: int = 0
    words: str
    total: int
    files: list[FileHealth]
    next: str | None = None


class AlarmReport(Answer):
    """``state``: ``open``, ``acknowledged``, or ``over``: the cause is gone. ``times`` seen."""

    id: str
    kind: str
    subject: str
    words: str
    state: str
    times: int
    raised_at: datetime
    last_at: datetime
    acknowledged_by: str | None = None


class Replicas(Wire):
    """How many copies there shall be of all that a drive holds, each at another peer."""

    copies: int = Field(ge=2, le=9)


class RevokeRequest(Wire):
    """Shut the peer out; ``force``: also when it has the only good copy of something; ``undo``:
    let it in again."""

    force: bool = False
    undo: bool = False


class DrainRequest(Wire):
    """Empty the peer; ``undo``: do not empty it any more."""

    undo: bool = False


class CollectRequest(Wire):
    """``keep_days``: keep so much history from now on; ``dry_run``: change nothing."""

    keep_days: float | None = Field(default=None, ge=0, le=36_500)
    dry_run: bool = False


class Collection(Answer):
    """What a collection of garbage found, in packs and bytes.

    ``found``: nothing needs it now; ``marked``: of that, what waits for the end of the grace;
    ``swept``: what was deleted by this call. ``dry_run``: nothing was changed.
    """

    found: int
    found_bytes: int
    marked: int
    swept: int
    swept_bytes: int
    versions: int
    grace_hours: float
    dry_run: bool


class Undone(Answer):
    """How many packs are no garbage any more."""

    unmarked: int
