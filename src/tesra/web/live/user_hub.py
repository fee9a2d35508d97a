"""All that is a user's, for lists and the bell: which runs and bills have become others."""

from collections.abc import AsyncIterator

from tesra.db.engine import Tx
from tesra.db.notify import Ids
from tesra.kit.ids import BillId, RunId, UserId
from tesra.kit.money import format_cny
from tesra.web.context import Services
from tesra.web.live.channel import Channel
from tesra.web.live.events import RETRY, event
from tesra.web.live.hubs import Hub, Hubs
from tesra.web.live.outbox import Event

GATHER_S = 0.25
MOST_AT_ONCE = 20  # of runs and bills that are read for one look; for more, a list is read anew
MOST_WAITING = 200
REFRESH = Event(event("refresh", {}), "refresh")


class UserHub(Hub):
    """What was changed is named by the wake-ups; a look that nobody asked for finds nothing."""

    tick_s = GATHER_S

    def __init__(self, services: Services, owner: UserId) -> None:
        super().__init__(services)
        self.topics = (f"user:{owner}",)
        self._owner = owner

    def attach(self) -> Channel:
        channel = Channel()
        channel.put(REFRESH)
        if self.over:
            channel.close()
        self.channels.add(channel)
        return channel

    async def look(self, news: list[Ids]) -> None:
        runs = list(dict.fromkeys(str(one["run"]) for one in news if set(one) == {"run"}))
        bills = list(dict.fromkeys(str(one["bill"]) for one in news if set(one) == {"bill"}))
        told = [_notice(one) for one in news if "notice" in one]
        if len(runs) + len(bills) > MOST_AT_ONCE or self.everything():
            self._tell(REFRESH)
            return
        async with self.services.database.begin() as tx:
            at = self.services.clock.now().isoformat()
            for run in runs:
                row = await self.services.training.run(tx, self._owner, RunId(run))
                fields = {"state", "phase", "reason", "project_name", "attempt", "sweep", "bill"}
                said = {"id": row.id, **row.model_dump(mode="json", include=fields)}
                self._tell(Event(event("runs", said), f"run:{run}"))
                if row.bill is not None and row.bill not in bills:
                    bills.append(row.bill)
            for bill in bills:
                await self._tell_bill(tx, bill)
        for number, one in enumerate(told):
            self._tell(Event(event("notice", one | {"at": at}), f"notice:{at}:{number}"))

    async def _tell_bill(self, tx: Tx, bill: str) -> None:
        made = await self.services.billing.bill(tx, self._owner, BillId(bill))
        said = {
            "id": made.id,
            "run": made.run_id,
            "state": "unpaid" if made.paid_at is None else "paid",
            "amount_cny": format_cny(made.amount_micros),
        }
        self._tell(Event(event("bill", said), f"bill:{bill}"))

    def _tell(self, new: Event) -> None:
        for channel in self.channels:
            if len(channel.outbox) >= MOST_WAITING:
                channel.outbox.clear()
                channel.put(REFRESH)
            else:
                channel.put(new)


async def user_events(services: Services, hubs: Hubs, owner: UserId) -> AsyncIterator[bytes]:
    """The stream of one page of this user; ends when the server does."""
    with hubs.enter(f"user:{owner}", lambda: UserHub(services, owner)) as hub:
        yield RETRY
        await hub.ready()
        channel = hub.attach()
        try:
            while data := await channel.take():
                yield data
        finally:
            hub.channels.discard(channel)


def _notice(ids: Ids) -> dict[str, str | int | None]:
    return {"event": ids["notice"], **{name: ids.get(name) for name in ("run", "bill", "sweep")}}
