"""Storage peers, the health of what they keep, and alarms, over HTTP."""

from datetime import datetime

from tesra.wire.common import Answer


class StoragePeer(Answer):
    """A peer that has joined. ``state``: ``online``, ``offline`` (it has not spoken lately),
    ``contained`` (it speaks, and does not show what it is asked for) or ``failed`` (it has shown
    something else than it was given); ``draining``: it is being emptied."""

    id: str
    name: str
    state: str
    owner: str
    machine: str
    gateway: bool
    draining: bool
    capacity_bytes: int
    used_bytes: int
    copies: int
    last_seen: datetime
