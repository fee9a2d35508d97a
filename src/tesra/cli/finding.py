"""Runs and bills as people name them: an id, its beginning or its end, or ``last``."""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tesra.kit.errors import Conflict, NotFound

if TYPE_CHECKING:
    from tesra.sdk.client import Client, LiveRun

LAST = frozenset({"last", "@last"})
_WHOLE = re.compile(r"(run|bil)_[0-9a-z]{26}")


class NoSuchRun(NotFound):
    """You have no such run."""


class NoSuchBill(NotFound):
    """You have no such bill."""


class Ambiguous(Conflict):
    """More than one fits."""


def matching(ids: Iterable[str], text: str) -> list[str]:
    """The ids that are, begin or end with the text; the beginning may leave out the kind."""
    wanted = text.lower()
    if not wanted:
        return []
    return [
        found
        for found in ids
        if found.startswith(wanted)
        or found.endswith(wanted)
        or found.partition("_")[2].startswith(wanted)
    ]


def find_run(client: "Client", text: str) -> "LiveRun":
    """The run that is meant, as it is now."""
    if _WHOLE.fullmatch(text):
        return client.show(text)
    if text in LAST:
        newest = client.runs(limit=1)
        if not newest:
            raise NoSuchRun("You have no runs yet.", way_out="`tesra run` starts one.")
        return client.show(newest[0].id)
    found = _only(matching((run.id for run in client.runs()), text), text, "run")
    if found is None:
        raise NoSuchRun(f"You have no run '{text}'.", way_out="`tesra runs` lists yours.")
    return client.show(found)


def find_bill(client: "Client", text: str) -> str:
    """The id of the bill that is meant; a run stands for its bill."""
    if _WHOLE.fullmatch(text) and text.startswith("bil_"):
        return text
    if text in LAST:
        newest = client.bills(limit=1)
        if not newest:
            raise NoSuchBill("You have no bills yet.")
        return newest[0].id
    if _WHOLE.fullmatch(text):
        run = client.show(text)
        if run.bill is None:
            raise NoSuchBill(
                f"{run.id} is {run.state} and has no bill.",
                way_out="A bill is made when the run has ended.",
            )
        return run.bill
    bills = client.bills()
    by_run = {bill.run: bill.id for bill in bills}
    found = _only(
        [
            *matching((bill.id for bill in bills), text),
            *(by_run[run] for run in matching(by_run, text)),
        ],
        text,
        "bill",
    )
    if found is None:
        raise NoSuchBill(f"You have no bill '{text}'.", way_out="`tesra bills` lists yours.")
    return found


def _only(found: Sequence[str], text: str, noun: str) -> str | None:
    several = list(dict.fromkeys(found))
    if len(several) > 1:
        shown = ", ".join(several[:3]) + (", ..." if len(several) > 3 else "")
        raise Ambiguous(
            f"'{text}' fits {len(several)} {noun}s: {shown}.", way_out="Give more of the id."
        )
    return several[0] if several else None
