"""Runs and bills as people name them: an id, its beginning or its end, or ``last``."""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tesra.kit.errors import Conflict, NotFound

if TYPE_CHECKING:
    from tesra.sdk.client import Client, LiveRun
    from tesra.wire.sweeps import Sweep

LAST = frozenset({"last", "@last"})
_WHOLE = re.compile(r"(run|bil)_[0-9a-z]{26}")
_SWEEP = re.compile(r"swp_[0-9a-z]{26}")


class NoSuchRun(NotFound):
    """You have no such run."""


class NoSuchBill(NotFound):
    """You have no such bill."""


class NoSuchSweep(NotFound):
    """You have no such sweep."""


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


def find_sweep(client: "Client", text: str) -> "Sweep":
    """The sweep that is meant, as it is now."""
    if _SWEEP.fullmatch(text):
        return client.show_sweep(text)
    if text in LAST:
        newest = client.sweeps(limit=1)
        if not newest:
            raise NoSuchSweep("You have no sweeps yet.", way_out="`tesra sweep` begins one.")
        return newest[0]
    found = _only(matching((sweep.id for sweep in client.sweeps()), text), text, "sweep")
    if found is None:
        raise NoSuchSweep(f"You have no sweep '{text}'.", way_out="`tesra sweeps` lists yours.")
    return client.show_sweep(found)


def find_best(client: "Client", text: str) -> "LiveRun":
    """The run of the best trial of the sweep that is meant."""
    sweep = find_sweep(client, text)
    if sweep.best is None:
        raise NoSuchRun(
            f"No trial of {sweep.id} has completed.", way_out=f"See `tesra sweep show {sweep.id}`."
        )
    return client.show(sweep.best.run)


def is_sweep(text: str) -> bool:
    """Whether this is certainly a sweep's id."""
    return _SWEEP.fullmatch(text) is not None


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
