"""What to do so that a site runs what the server lists, and nothing else. Pure.

The list is the whole truth at its version (level-triggered): it does not matter how many versions
were missed, nor how often the same one is applied.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tesra.node.spool import Note
from tesra.wire.site import Assignment


@dataclass(frozen=True, slots=True)
class Begin:
    """Reserve the devices and start the gang."""

    assignment: Assignment


@dataclass(frozen=True, slots=True)
class Stop:
    """End the gang as its user would: with grace, keeping its output."""

    assignment: Assignment


@dataclass(frozen=True, slots=True)
class NeverBegan:
    """Stopped before it was begun here: say so."""

    assignment: Assignment


@dataclass(frozen=True, slots=True)
class Kill:
    """Its fence is gone: end it at once and say nothing about it any more."""

    attempt: str


@dataclass(frozen=True, slots=True)
class Forget:
    """It has ended and the server knows: remove what is left of it."""

    attempt: str


Action = Begin | Stop | NeverBegan | Kill | Forget


def decide(
    assignments: Iterable[Assignment], notes: Mapping[str, Note], strangers: Iterable[str]
) -> list[Action]:
    """``notes``: what was begun here; ``strangers``: what nodes hold and no note tells of."""
    listed = {assignment.attempt: assignment for assignment in assignments}
    actions: list[Action] = [Kill(attempt) for attempt in strangers if attempt not in notes]
    for attempt, note in notes.items():
        assignment = listed.get(attempt)
        if assignment is None:
            actions.append(Forget(attempt) if note.ended else Kill(attempt))
        elif assignment.fence != note.fence:
            actions.append(Kill(attempt))  # and begun anew by the next list, which follows at once
        elif assignment.stop is not None and not note.ended:
            actions.append(Stop(assignment))
    for attempt, assignment in listed.items():
        if attempt not in notes:
            actions.append(NeverBegan(assignment) if assignment.stop else Begin(assignment))
    return actions
