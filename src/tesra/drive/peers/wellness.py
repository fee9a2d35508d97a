"""How well a pack is kept, by the copies of it: never called better than it was shown to be. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tesra.drive.peers.placement import COPIES
from tesra.storage.wellness import DEGRADED, GOOD, LOCKED, OFFLINE, Wellness


@dataclass(frozen=True, slots=True)
class GoodCopy:
    """A copy that is held and not known to be bad."""

    machine: str
    reachable: bool
    proven_at: datetime | None


def of_pack(copies: Sequence[GoodCopy], goal: int = COPIES) -> Wellness:
    """``goal``: how many copies the drive's owner wants."""
    there = [copy for copy in copies if copy.reachable]
    machines = len({copy.machine for copy in there})
    proofs = [copy.proven_at for copy in there or copies]
    known = [at for at in proofs if at is not None]
    last = min(known) if known and len(known) == len(proofs) else None
    state = _state(copies, there, goal=goal)
    return Wellness(len(there), machines, last, state, away=len(copies) - len(there))


def _state(copies: Sequence[GoodCopy], there: Sequence[GoodCopy], *, goal: int) -> str:
    if not copies:
        return LOCKED
    if not there:
        return OFFLINE
    machines = len({copy.machine for copy in there})
    return GOOD if len(there) >= goal and machines >= goal else DEGRADED
