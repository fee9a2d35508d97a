"""Which work of a run's attempts is its user's to pay. Pure.

Each attempt goes on from a checkpoint of an earlier one, if its script reads it, or from nothing. What an attempt did is
paid for unless the platform lost it; of one that was lost only what lies before the last of its
checkpoints that anything that is paid for goes on from. So no step is paid for twice, and none
that is gone. An attempt that its user began anew (a rollback) is not lost: it did what was asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tesra.billing.model import Part
from tesra.kit.ids import AttemptId, CheckpointId


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt: what it went on from, and whether the platform lost it."""

    attempt: AttemptId
    number: int
    base: CheckpointId | None
    lost: bool


@dataclass(frozen=True, slots=True)
class Made:
    """A checkpoint: ``ran_ms`` of its attempt's usage are in it."""

    attempt: AttemptId
    ran_ms: int


def billed_parts(
    tries: Sequence[Try],
    made: Mapping[CheckpointId, Made],
    head: CheckpointId | None,
) -> list[Part]:
    """The parts of a run that are paid for, in the order of its attempts.

    ``head``: the checkpoint that the next attempt, or whoever resumes the run, goes on from, when
    the last attempt was lost. One that is not in ``made`` is another run's, and paid for there.
    """
    kept: dict[AttemptId, int] = {}

    def use(checkpoint: CheckpointId | None) -> None:
        found = made.get(checkpoint) if checkpoint is not None else None
        if found is not None:
            kept[found.attempt] = max(found.ran_ms, kept.get(found.attempt, 0))

    use(head)
    parts: list[Part] = []
    for one in sorted(tries, key=lambda one: one.number, reverse=True):
        until_ms = kept.get(one.attempt) if one.lost else None
        if one.lost and until_ms is None:
            continue
        use(one.base)
        parts.append(Part(one.attempt, one.number, until_ms))
    return parts[::-1]
