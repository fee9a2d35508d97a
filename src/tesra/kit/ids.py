"""Identifiers: a prefix that names the kind, then 26 characters that sort by time of making.

The layout is ULID's (48 bits of milliseconds, 80 random bits, Crockford base 32), in lower case.
"""

import os
import time
from datetime import datetime
from typing import NewType

UserId = NewType("UserId", str)
TokenId = NewType("TokenId", str)
DriveId = NewType("DriveId", str)
EpochId = NewType("EpochId", str)
ProjectId = NewType("ProjectId", str)
SnapshotId = NewType("SnapshotId", str)
RunId = NewType("RunId", str)
AttemptId = NewType("AttemptId", str)
CheckpointId = NewType("CheckpointId", str)
BillId = NewType("BillId", str)
VoucherId = NewType("VoucherId", str)
PeerId = NewType("PeerId", str)
SiteId = NewType("SiteId", str)
NodeId = NewType("NodeId", str)
DeviceId = NewType("DeviceId", str)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH = 26


def new_id(prefix: str) -> str:
    """A fresh id such as ``run_01jd…``; unique without coordination."""
    return _written(prefix, (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10)))


def earliest_id(prefix: str, at: datetime) -> str:
    """The least id that can have been made then: what sorts at or after it was made then or later."""
    return _written(prefix, int(at.timestamp() * 1000) << 80)


def _written(prefix: str, value: int) -> str:
    characters = []
    for _ in range(_LENGTH):
        characters.append(_ALPHABET[value & 31])
        value >>= 5
    return f"{prefix}_{''.join(reversed(characters))}"
