"""How much a user's runs may come to owe before they are paid. Pure.

Exposure is what is unpaid, plus what live runs have cost so far (a run that has hardly begun
counts for ``RESERVE_MS``). It may reach the user's limit plus their vouchers and wallet, since
those can pay.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tesra.billing.model import Credit
from tesra.billing.pricing import cost_of
from tesra.kit.ids import RunId
from tesra.kit.money import format_cny
from tesra.kit.saying import Said, said
from tesra.training.caps import GRACE_MS, REPORT_MS

RESERVE_MS = 600_000


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A run that holds devices; ``endable``: it runs and nobody has asked it to end."""

    run: RunId
    cost_micros: int
    rating_micro_t: int
    started_s: float
    endable: bool


def reserve(rating_micro_t: int, price_micros: int, max_cost_micros: int | None = None) -> int:
    """What a run has to have room for to start."""
    cost = cost_of(RESERVE_MS, rating_micro_t, price_micros)
    return cost if max_cost_micros is None else min(cost, max_cost_micros)


def committed(live: Sequence[LiveRun], price_micros: int) -> int:
    """What live runs owe, or soon will."""
    return sum(max(r.cost_micros, reserve(r.rating_micro_t, price_micros)) for r in live)


def to_end(live: Sequence[LiveRun], credit: Credit, price_micros: int) -> RunId | None:
    """The run to stop so that the limit is kept: the one that began last; None while there is room.

    Looked at with each usage record, so one at a time is enough.
    """
    running = [run for run in live if run.endable]
    soon_micros = sum(
        run.cost_micros + cost_of(GRACE_MS + REPORT_MS, run.rating_micro_t, price_micros)
        for run in live
    )
    if not running or soon_micros <= credit.room_micros:
        return None
    return max(running, key=lambda run: (run.started_s, run.run)).run


def waits_words(credit: Credit, live_micros: int, needed_micros: int) -> Said:
    """Why a queued run does not start, and the way out."""
    return said(
        f"Waits: your runs may come to CNY {format_cny(credit.room_micros)} before they are paid "
        f"(a limit of CNY {format_cny(credit.limit_micros)}, and your wallet and vouchers); CNY "
        f"{format_cny(live_micros)} of it is in use, and this one needs CNY "
        f"{format_cny(needed_micros, 4)} to start. Let a run end and pay its bill, top up, or ask "
        "the operator for a higher limit."
    )


def end_words(credit: Credit, run: str) -> Said:
    """Why a running run is stopped, and the way on."""
    return said(
        f"Stopped at your limit of CNY {format_cny(credit.limit_micros)} for unpaid runs (with "
        f"your wallet and vouchers CNY {format_cny(credit.room_micros)}): pay or top up, then "
        f"`tesra resume {run}` goes on."
    )
