"""What each node of a site should tell its ranks now. Pure."""

from collections.abc import Iterator, Mapping

from tesra.node.orders import AttemptStatus
from tesra.node.spool import Note
from tesra.node.tuning.decide import orders_now
from tesra.node.tuning.model import Order
from tesra.wire.site import Assignment

Telling = tuple[str, str, tuple[Order, ...]]  # node, attempt, orders


def to_tell_ranks(
    listed: Mapping[str, Assignment],
    notes: Mapping[str, Note],
    reports: Mapping[str, Mapping[str, AttemptStatus]],
) -> Iterator[Telling]:
    """The nodes whose ranks should be told something else than they are.

    An attempt is left alone until all of its nodes report: only together do they know a step.
    """
    for attempt, assignment in listed.items():
        note = notes.get(attempt)
        if note is None or note.ended:
            continue
        parts = {node: reports.get(node, {}).get(attempt) for node in note.nodes}
        known = {
            node: part.tuning
            for node, part in parts.items()
            if part is not None and part.fence == note.fence and part.tuning is not None
        }
        if not known or len(known) < len(parts):
            continue
        wanted = orders_now(assignment.tuning, list(known.values()))
        for node, report in known.items():
            if report.orders != wanted:
                yield node, attempt, wanted
