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
    """Reserve the devices and start the gang; harmless where that was done already."""

    assignment: Assignment

    @property
    def attempt(self) -> str:
        return self.assignment.attempt


@dataclass(frozen=True, slots=True)
class Stop:
    """End the gang as its user would: with grace, keeping its output."""

    assignment: Assignment

    @property
    def attempt(self) -> str:
        return self.assignment.attempt


@dataclass(frozen=True, slots=True)
class NeverRan:
    """It was stopped before any node held it: say so."""

    assignment: Assignment

    @property
    def attempt(self) -> str:
        return self.assignment.attempt


@dataclass(frozen=True, slots=True)
class Lose:
    """It ran, and no node knows of it any more: say so."""

    attempt: str


@dataclass(frozen=True, slots=True)
class Kill:
    """Its fence is gone: end it at once and say nothing about it any more."""

    attempt: str


@dataclass(frozen=True, slots=True)
class Forget:
    """It has ended and the server knows: remove what is left of it."""

    attempt: str


Action = Begin | Stop | NeverRan | Lose | Kill | Forget


def decide(
    assignments: Iterable[Assignment],
    notes: Mapping[str, Note],
    held: Mapping[str, frozenset[str]],
) -> list[Action]:
    """``notes``: what was begun here, by attempt; ``held``: the nodes that report each attempt."""
    listed = {assignment.attempt: assignment for assignment in assignments}
    actions: list[Action] = [Kill(attempt) for attempt in held if attempt not in notes]
    for attempt, note in notes.items():
        assignment = listed.get(attempt)
        if assignment is None:
            actions.append(Forget(attempt) if note.ended else Kill(attempt))
        elif assignment.fence != note.fence:
            actions.append(Kill(attempt))  # and begun anew when this list is applied again
        elif not note.ended:
            actions += _keep_going(assignment, note, held.get(attempt, frozenset()))
    for attempt, assignment in listed.items():
        if attempt not in notes:
            actions.append(NeverRan(assignment) if assignment.stop else Begin(assignment))
    return actions


def _keep_going(assignment: Assignment, note: Note, holders: frozenset[str]) -> list[Action]:
    everywhere = holders >= set(note.nodes)
    if assignment.stop is not None:
        return [Stop(assignment)] if holders else [NeverRan(assignment)]
    if everywhere:
        return []
    return [Lose(assignment.attempt)] if note.started else [Begin(assignment)]
