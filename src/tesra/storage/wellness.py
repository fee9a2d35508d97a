"""How well packs, and files that need several of them, are kept. Pure.

A file is as well kept as the worst of its packs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

GOOD = "good"
DEGRADED = "degraded"
OFFLINE = "offline"
LOCKED = "locked"
_WORST_FIRST = (LOCKED, OFFLINE, DEGRADED, GOOD)


@dataclass(frozen=True, slots=True)
class Wellness:
    """``copies`` on so many ``machines``, at holders that answer; ``away``: more at some that do not
    now; ``last_proof``: all of these had been proven by then, if ever."""

    copies: int
    machines: int
    last_proof: datetime | None
    state: str
    away: int = 0


def worst(parts: Iterable[Wellness]) -> Wellness | None:
    """Of what is needed together: the fewest copies, the fewest machines, the oldest proof."""
    found = list(parts)
    if not found:
        return None
    known = [part.last_proof for part in found if part.last_proof is not None]
    return Wellness(
        copies=min(part.copies for part in found),
        machines=min(part.machines for part in found),
        last_proof=min(known) if len(known) == len(found) else None,
        state=min((part.state for part in found), key=_WORST_FIRST.index),
        away=max(part.away for part in found),
    )


def say(found: Wellness | None) -> str:
    """One line for people, which never says more than is known."""
    if found is None:
        return "nothing is stored here"
    copies = f"{found.copies} {'copy' if found.copies == 1 else 'copies'}"
    machines = f"{found.machines} {'machine' if found.machines == 1 else 'machines'}"
    if found.state == LOCKED:
        return "no good copy is left of some: locked until one comes back"
    if found.state == OFFLINE:
        return "no holder of some answers now: it is there again when one does"
    away = f", and up to {found.away} more with peers that are away" if found.away else ""
    return f"{copies}, {machines}{away}"
