"""Which queued runs may be placed: those of users who owe nothing and have room for what may come."""

from collections.abc import Collection, Sequence

from tesra.billing.service import BillingService
from tesra.compute.model import Device
from tesra.db.engine import Tx
from tesra.db.notify import notify_all, topic_with
from tesra.kit.ids import RunId, UserId
from tesra.kit.saying import Said, said
from tesra.training import exposure
from tesra.training.queue_rows import QueueRows
from tesra.training.queueing import HELD_UP, LIMIT_REACHED, PAYMENT_DUE
from tesra.training.repository import RunRepository, RunRow


class Admission:
    """Holds runs up for money and lets them go again; running ones are not touched."""

    def __init__(self, billing: BillingService) -> None:
        self._billing = billing
        self._repository = RunRepository()
        self._rows = QueueRows()

    async def admit(
        self, tx: Tx, queue: Sequence[RunRow], free: Collection[Device]
    ) -> list[RunRow]:
        """Those of ``queue`` that may start; the others say what they wait for."""
        if not queue:
            return []
        users = {UserId(row.owner) for row in queue}
        standing = await self._billing.credits(tx, users)
        live = await self._rows.live(tx, users)
        price = await self._billing.current_price_micros(tx)
        taken = {user: exposure.committed(live[user], price) for user in users}
        admitted = []
        for row in queue:
            user = UserId(row.owner)
            rating = _rating(row, free)
            needed = 0 if row.smoke else exposure.reserve(rating, price, row.max_cost_micros)
            if standing[user].unpaid_micros > 0:
                await self._hold_up(tx, row, PAYMENT_DUE, None)
            elif rating == 0 and row.phase == LIMIT_REACHED:
                continue  # nothing is free that could tell what it needs
            elif taken[user] + needed > standing[user].room_micros:
                words = exposure.waits_words(standing[user], taken[user], needed)
                await self._hold_up(tx, row, LIMIT_REACHED, words)
            else:
                taken[user] += needed
                admitted.append(row)
                if row.phase in HELD_UP:
                    await self._note(tx, row, None, None)
        return admitted

    async def _hold_up(self, tx: Tx, row: RunRow, phase: str, words: Said | None) -> None:
        if row.phase == phase:
            return
        if words is None:
            bill = await self._billing.unpaid_bill(tx, UserId(row.owner))
            words = said(
                f"Waits for payment. Bill {bill.id} of CNY {bill.amount_cny} is unpaid: "
                f"`tesra pay {bill.id}`."
                if bill
                else "Waits for payment."
            )
        await self._note(tx, row, phase, words)

    async def _note(self, tx: Tx, row: RunRow, phase: str | None, words: Said | None) -> None:
        await self._repository.update_run(tx, RunId(row.id), {"phase": phase, "reason": words})
        await notify_all(tx, [f"run:{row.id}", topic_with(f"user:{row.owner}", run=row.id)])


def _rating(row: RunRow, free: Collection[Device]) -> int:
    """Of the strongest devices that it may get."""
    ratings = [d.rating_micro_t for d in free if row.device_class in (None, d.device_class)]
    return max(ratings, default=0) * int(row.devices)
