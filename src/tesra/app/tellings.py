"""What of a run's changes is told to its user: the observers that queue notices."""

from dataclasses import replace

from tesra.billing.service import BillingService
from tesra.db.engine import Tx
from tesra.identity.service import IdentityService
from tesra.kit.ids import RunId, UserId
from tesra.kit.money import format_cny
from tesra.notices.model import Event, Happening
from tesra.notices.service import NoticeService
from tesra.security.alarms import Alarm, Ring
from tesra.training.domains import NearCap, SweepEnd, SweepEnded
from tesra.training.model import RunState, StopCause
from tesra.training.transitions import Observer, RunChange


def tell_of_runs(notices: NoticeService, billing: BillingService) -> Observer:
    """Ends, losses and unpaid bills.

    A sweep speaks for its trials; a smoke run, which has no bill, is watched by its user.
    """

    async def observe(tx: Tx, change: RunChange) -> None:
        is_over = change.after.terminal and change.bill is not None
        if change.sweep is not None or not (is_over or _is_lost(change)):
            return
        event = event_of(change)
        said = Happening(
            Event.BILL,
            run=change.run,
            project=change.project,
            amount_cny=_cny(change.amount_micros),
        )
        if change.bill is not None and change.amount_micros:
            bill = await billing.bill(tx, change.owner, change.bill)
            said = replace(said, bill=bill.id if bill.paid_at is None else None)
        happenings = []
        if event is not None:
            happenings.append(replace(said, event=event, reason=change.reason))
        if said.bill is not None:
            happenings.append(said)
        if happenings:
            await notices.tell(tx, change.owner, happenings)

    return observe


def tell_of_caps(notices: NoticeService) -> NearCap:
    """That a cap comes near."""

    async def observe(tx: Tx, run: RunId, owner: UserId, words: str) -> None:
        await notices.tell(tx, owner, [Happening(Event.NEAR_CAP, run=run, reason=words)])

    return observe


def tell_of_sweeps(notices: NoticeService) -> SweepEnded:
    """That a sweep is over, and its bill."""

    async def observe(tx: Tx, end: SweepEnd) -> None:
        said = Happening(
            Event.SWEEP,
            sweep=end.sweep,
            project=end.project,
            reason=end.reason,
            amount_cny=_cny(end.bill.amount_micros),
            bill=end.bill.id if end.bill.paid_at is None else None,
        )
        bill = [replace(said, event=Event.BILL, reason=None)] if said.bill else []
        await notices.tell(tx, end.owner, [said, *bill])

    return observe


def tell_of_alarms(notices: NoticeService, identity: IdentityService) -> Ring:
    """Each new alarm, to every operator who wants to be told."""

    async def ring(tx: Tx, alarm: Alarm) -> None:
        said = Happening(Event.ALARM, reason=alarm.words)
        for operator in await identity.operators(tx):
            await notices.tell(tx, operator, [said])

    return ring


def event_of(change: RunChange) -> Event | None:
    """None for what its user has done, and what is on the way."""
    if change.after is RunState.SUCCEEDED:
        return Event.ENDED
    if change.after is RunState.FAILED:
        return Event.FAILED
    if change.after is RunState.STOPPED:
        return Event.CAP if change.stop is StopCause.CAP else None
    return Event.AGAIN if _is_lost(change) else None


def _is_lost(change: RunChange) -> bool:
    return change.before.live and change.after is RunState.QUEUED and not change.anew


def _cny(micros: int | None) -> str | None:
    return None if micros is None else format_cny(micros)
