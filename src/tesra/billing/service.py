"""Billing: usage in, a bill for each run out, and its payment.

Billing knows no runs: a run is an id that usage records and one bill carry. Starting a run
(``require_settled``) and making or paying a bill lock the user's account row, so that no run can
start between a bill's making and its being seen.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from tesra.billing import ledger, pricing, repository, voucher_repository
from tesra.billing.funds import Funds
from tesra.billing.model import (
    Account,
    Bill,
    BillLine,
    BillMissing,
    BillSummary,
    DayBilled,
    InsufficientFunds,
    Part,
    Payment,
    Price,
    PriceConflict,
    PriceInvalid,
    Share,
    UsageConflict,
    UsageRecord,
)
from tesra.billing.pricing import Stretch
from tesra.db.engine import Tx
from tesra.kit.errors import Conflict, PaymentDue
from tesra.kit.ids import BillId, RunId, UserId, new_id
from tesra.kit.money import format_cny
from tesra.kit.saying import said

NOTHING_TO_PAY = said("Nothing to pay: no billable usage.")
TOO_LITTLE_TO_PAY = said("Nothing to pay: so short a use costs less than a millionth of a yuan.")
AUTOPAY_KEY = "autopay"
_NOTHING = ledger.PaymentPlan((), 0, 0)


class BillingService(Funds):
    """Everything about money; see :class:`Funds` for accounts, wallets and vouchers."""

    # usage

    async def record_usage(self, tx: Tx, record: UsageRecord) -> int:
        """Keeps a record once; the same again is ignored, another one under its key refused.

        Answers what it costs in micro-yuan, rounded up.
        """
        price = await repository.add_usage(tx, pricing.stretch_of(record), record.run_id)
        if price is None:
            raise UsageConflict(f"usage:{record.attempt_id}:{record.seq} has another content.")
        rating = sum(device[1] for device in record.devices)
        return pricing.cost_of(record.duration_ms, rating, price)

    async def usage_totals(self, tx: Tx, parts: Sequence[Part]) -> int:
        """Micro-T·H so far of these parts of a run."""
        return pricing.total_micro_th(await self._lines(tx, parts))

    async def amount_so_far(self, tx: Tx, parts: Sequence[Part]) -> int:
        """What a bill of these parts would be now, rounded up to the fen."""
        return pricing.bill_amount(await self._lines(tx, parts))

    async def usage_of_run(self, tx: Tx, run_id: RunId) -> list[Stretch]:
        """What the run used, over all attempts, whether it was billed or not."""
        return await repository.usage_of_run(tx, run_id)

    # bills

    async def require_settled(self, tx: Tx, user_id: UserId) -> None:
        """Locks the account until the transaction ends; raises ``PaymentDue`` for an unpaid bill."""
        await self._lock(tx, user_id)
        bill = await repository.oldest_unpaid(tx, user_id)
        if bill is not None:
            raise PaymentDue(
                f"Bill {bill.id} of CNY {bill.amount_cny} has to be paid first.",
                way_out=f"Pay it with `tesra pay {bill.id}`.",
                bill=bill.id,
                amount_cny=bill.amount_cny,
                pay=f"/api/v1/bills/{bill.id}/pay",
            )

    async def unpaid_bill(self, tx: Tx, user_id: UserId) -> BillSummary | None:
        """The oldest unpaid bill, without locking."""
        return await repository.oldest_unpaid(tx, user_id)

    async def unpaid_users(self, tx: Tx, user_ids: Collection[UserId]) -> set[UserId]:
        """Those who have an unpaid bill."""
        return await repository.unpaid_users(tx, user_ids) if user_ids else set()

    async def make_bill(
        self,
        tx: Tx,
        run_id: RunId,
        user_id: UserId,
        *,
        parts: Sequence[Part],
        note: str | None = None,
        cap_micros: int | None = None,
    ) -> Bill:
        """The bill of a run, made once; a second call gives the same bill.

        Call it after the run's last usage is recorded: what comes later is never billed. Only what
        ``parts`` name of its usage counts. A zero bill is paid from the start and says why; so does
        one that ``cap_micros`` (whole fen) has cut. With autopay it is paid at once if the money
        covers all of it.
        """
        account = await self._lock(tx, user_id)
        lines = await self._lines(tx, parts)
        bill = _draft(run_id, user_id, lines, note, self._clock.now())
        return await self._issue(tx, account, _capped(bill, cap_micros))

    async def set_aside(
        self,
        tx: Tx,
        run_id: RunId,
        *,
        subject: str,
        trial: int,
        parts: Sequence[Part],
    ) -> Share:
        """Price the use of a run that has ended, for the bill of all runs of ``subject``; once a run."""
        lines = await self._lines(tx, parts)
        named = [replace(line, run_id=run_id, trial=trial) for line in lines]
        await repository.put_lines_aside(tx, subject, named)
        return Share(sum(line.amount_micros for line in lines), pricing.total_micro_th(lines))

    async def aside(self, tx: Tx, subject: str) -> Share:
        """What has been set aside so far; exact, not rounded up to the fen."""
        return Share(*await repository.sum_aside(tx, subject))

    async def make_joint_bill(
        self, tx: Tx, subject: str, user_id: UserId, *, cap_micros: int | None = None
    ) -> Bill:
        """One bill for all runs set aside under ``subject``: rounded once, capped once; made once."""
        account = await self._lock(tx, user_id)
        lines = await repository.lines_aside(tx, subject)
        bill = _draft(RunId(subject), user_id, lines, None, self._clock.now())
        made = await self._issue(tx, account, _capped(bill, cap_micros))
        await repository.clear_aside(tx, subject)
        return made

    async def _issue(self, tx: Tx, account: Account, bill: Bill) -> Bill:
        plan = await self._autopayment(tx, account, bill.amount_micros)
        made_at = await repository.add_bill(tx, bill, paid=plan is not None)
        if made_at is None:
            return await self._bill_of_run(tx, bill.run_id, bill.user_id)
        await repository.add_lines(tx, bill.id, bill.lines)
        await repository.save_postings(tx, _postings(bill, plan))
        return _as_made(bill, plan, made_at)

    async def pay(
        self,
        tx: Tx,
        user_id: UserId,
        bill_id: BillId,
        *,
        key: str | None = None,
        voucher_code: str | None = None,
    ) -> Bill:
        """Pays one of the user's own bills whole: vouchers first (soonest expiry), then the wallet.

        ``voucher_code`` is redeemed only if the payment goes through. A paid bill is returned as
        it is. Raises ``BillMissing`` or ``InsufficientFunds``, and then has changed nothing.
        """
        account = await self._lock(tx, user_id)
        bill = await self.bill(tx, user_id, bill_id)
        if bill.paid_at is not None:
            return bill
        lots = await voucher_repository.open_lots(tx, user_id)
        redeemed = await self._redeemable(tx, user_id, voucher_code) if voucher_code else None
        plan = ledger.plan_payment(
            bill.amount_micros,
            lots if redeemed is None else [*lots, redeemed],
            wallet_micros=account.wallet_micros,
            now=self._clock.now(),
        )
        if not plan.covers:
            raise _insufficient(bill, plan)
        if redeemed is not None:
            await self._take(tx, user_id, redeemed)
        await repository.save_postings(
            tx, ledger.post_payment(user_id, bill_id, plan, key=key or new_id("pay"))
        )
        await repository.mark_paid(tx, bill_id)
        return await self.bill(tx, user_id, bill_id)

    async def bills(
        self,
        tx: Tx,
        user_id: UserId,
        cursor: str | None = None,
        limit: int = 50,
        *,
        paid: bool | None = None,
    ) -> list[BillSummary]:
        """The user's bills, newest first; ``cursor`` is the id that the last page ended with.

        ``paid``: only those that are paid, or only those that are not.
        """
        return await repository.list_bills(tx, user_id, before=cursor, limit=limit, paid=paid)

    async def billed_by_day(self, tx: Tx, user_id: UserId, *, days: int) -> list[DayBilled]:
        """What was billed on each of the last ``days`` (UTC) on which there was a bill."""
        since = self._clock.now() - timedelta(days=days)
        return await repository.billed_by_day(tx, user_id, since=since)

    async def bill(self, tx: Tx, user_id: UserId, bill_id: BillId) -> Bill:
        """One of the user's own bills; another's does not exist (``BillMissing``)."""
        bill = await repository.load_bill(tx, user_id, bill_id)
        if bill is None:
            raise BillMissing(way_out="`tesra bills` lists yours.")
        return bill

    # prices

    async def prices(self, tx: Tx) -> list[Price]:
        """The price book, the oldest first."""
        return await repository.load_prices(tx)

    async def current_price_micros(self, tx: Tx) -> int:
        """What one T·H costs now."""
        return await self.price_micros(tx, self._clock.now())

    async def price_micros(self, tx: Tx, at: datetime) -> int:
        """What one T·H costs when its use starts then."""
        return pricing.price_at(await repository.load_prices(tx), at).micros_per_th

    async def set_price(
        self,
        tx: Tx,
        operator_id: UserId,
        price_micros: int,
        effective_from: datetime | None = None,
    ) -> Price:
        """A new price for usage that starts at ``effective_from`` (now by default) or later."""
        now = self._clock.now()
        start = effective_from or now
        if price_micros < 0 or price_micros > pricing.MAX_PRICE_MICROS:
            raise PriceInvalid
        if start.tzinfo is None or start < now:
            raise PriceInvalid(
                "A price takes effect now or later, never in the past.",
                way_out="Leave the date out for now, or give one in the future with its zone.",
            )
        price = await repository.add_price(tx, operator_id, price_micros, effective_from=start)
        if price is None:
            raise PriceConflict
        return price

    async def _lines(self, tx: Tx, parts: Sequence[Part]) -> tuple[BillLine, ...]:
        usage: list[Stretch] = []
        for part in parts:
            usage += await repository.usage_of(tx, part)
        if not usage:
            return ()
        return pricing.bill_lines(usage, await repository.load_prices(tx), parts)

    async def _autopayment(
        self, tx: Tx, account: Account, amount_micros: int
    ) -> ledger.PaymentPlan | None:
        """How the bill is paid as it is made; None leaves it unpaid."""
        if amount_micros == 0:
            return _NOTHING
        if not account.autopay:
            return None
        lots = await voucher_repository.open_lots(tx, account.user_id)
        plan = ledger.plan_payment(
            amount_micros, lots, wallet_micros=account.wallet_micros, now=self._clock.now()
        )
        return plan if plan.covers else None

    async def _bill_of_run(self, tx: Tx, run_id: RunId, user_id: UserId) -> Bill:
        bill = await repository.load_bill_of_run(tx, run_id)
        if bill is None or bill.user_id != user_id:
            raise Conflict(f"{run_id} was billed to somebody else.")
        return bill


def _draft(
    run_id: RunId, user_id: UserId, lines: tuple[BillLine, ...], note: str | None, now: datetime
) -> Bill:
    amount_micros = pricing.bill_amount(lines)
    return Bill(
        id=BillId(new_id("bil")),
        run_id=run_id,
        user_id=user_id,
        amount_micros=amount_micros,
        micro_th=pricing.total_micro_th(lines),
        note=note or (None if amount_micros else TOO_LITTLE_TO_PAY if lines else NOTHING_TO_PAY),
        created_at=now,
        paid_at=None,
        lines=lines,
        payments=(),
    )


def _capped(bill: Bill, cap_micros: int | None) -> Bill:
    """The bill, or what the user's cap leaves of it."""
    if cap_micros is None or bill.amount_micros <= cap_micros:
        return bill
    note = said(f"Capped at CNY {format_cny(cap_micros)}: the use was CNY {bill.amount_cny}.")
    return replace(bill, amount_micros=cap_micros, note=note)


def _postings(bill: Bill, plan: ledger.PaymentPlan | None) -> list[ledger.Posting]:
    if bill.amount_micros == 0:
        return []
    made = ledger.post_bill(bill.user_id, bill.id, bill.run_id, amount_micros=bill.amount_micros)
    if plan is None:
        return [made]
    return [made, *ledger.post_payment(bill.user_id, bill.id, plan, key=AUTOPAY_KEY)]


def _as_made(bill: Bill, plan: ledger.PaymentPlan | None, at: datetime) -> Bill:
    """The bill as the database has it, without reading it again."""
    if plan is None:
        return replace(bill, created_at=at)
    payments = [Payment("voucher", part, at) for _, part in plan.from_vouchers]
    if plan.from_wallet_micros:
        payments.append(Payment("wallet", plan.from_wallet_micros, at))
    return replace(bill, created_at=at, paid_at=at, payments=tuple(payments))


def _insufficient(bill: Bill, plan: ledger.PaymentPlan) -> InsufficientFunds:
    missing = format_cny(plan.missing_micros)
    return InsufficientFunds(
        f"CNY {missing} is missing: the bill is CNY {bill.amount_cny}, your vouchers and wallet "
        f"hold CNY {format_cny(bill.amount_micros - plan.missing_micros)}.",
        way_out=f"Add a voucher (`tesra pay {bill.id} --voucher CODE`), or ask the operator for "
        f"a top-up of at least CNY {missing}, then pay again.",
        bill=bill.id,
        amount_cny=bill.amount_cny,
        missing_cny=missing,
    )
