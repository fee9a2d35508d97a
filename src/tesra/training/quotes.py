"""Quotes: what a run would cost and when it could start, before anything is done."""

from dataclasses import dataclass

from tesra.billing.model import Credit
from tesra.billing.pricing import cost_of, running_ms_for
from tesra.compute.model import Device
from tesra.compute.scheduling import Waiting, fits, gang_of, queue_order
from tesra.db.engine import Tx
from tesra.kit.ids import RunId, UserId
from tesra.kit.money import MS_PER_HOUR, ceil_to_fen, format_cny, format_micros, parse_cny
from tesra.training.caps import Caps, Spent, left_ms, span
from tesra.training.device_choice import Wanted, check_offer, gang_ratings
from tesra.training.domains import Domains
from tesra.training.queueing import Queue, QueueService
from tesra.wire.quotes import Quote, QuoteRequest

_THIS = RunId("this one")


@dataclass(frozen=True, slots=True)
class Rates:
    """Of a gang, in micro-T: the weakest and the strongest that it may be."""

    low: int
    high: int
    price_micros: int

    def cny_per_hour(self, rating_micro_t: int) -> str:
        return format_cny(cost_of(MS_PER_HOUR, rating_micro_t, self.price_micros))

    @property
    def words(self) -> str:
        low, high = self.cny_per_hour(self.low), self.cny_per_hour(self.high)
        return f"CNY {high} an hour" if low == high else f"CNY {low} to {high} an hour"


class QuoteService:
    """Quotes for a user, from the same parts that place, cap and bill the run."""

    def __init__(self, domains: Domains) -> None:
        self._billing = domains.billing
        self._queue = QueueService(domains.compute)

    async def quote(self, tx: Tx, owner: UserId, request: QuoteRequest) -> Quote:
        """What it would cost; refuses what no site has."""
        queue = await self._queue.look(tx)
        wanted = Wanted(request.devices, request.device_class, request.launch == "single")
        check_offer(queue.devices, wanted)
        this = Waiting(_THIS, owner, wanted.devices, wanted.device_class, wanted.one_node, 0.0)
        if owner not in queue.standings:
            queue.standings.update(await self._queue.standings(tx, {owner}))
        place = _place(this, queue)
        credit = (await self._billing.credits(tx, {owner}))[owner]
        price = await self._billing.current_price_micros(tx)
        rates = Rates(*_ratings(this, wanted, queue, starts=place is None), price_micros=price)
        caps = Caps(
            parse_cny(request.max_cost_cny) if request.max_cost_cny is not None else None,
            request.max_time_s * 1000 if request.max_time_s is not None else None,
        )
        return _written(request, rates, caps, credit, (place, queue.devices))


def _place(this: Waiting, queue: Queue) -> int | None:
    """Among those that wait; None when it starts at once."""
    order = queue_order([*queue.waiting, this], queue.standings, queue.devices)
    place = order.index(_THIS) + 1
    return None if place == 1 and fits(this, _free(queue.devices)) else place


def _ratings(this: Waiting, wanted: Wanted, queue: Queue, *, starts: bool) -> tuple[int, int]:
    """Of the very devices when it starts at once, else of all that it may get."""
    gang = gang_of(this, _free(queue.devices)) if starts else None
    if gang is None:
        return gang_ratings(queue.devices, wanted)
    rating = sum(device.rating_micro_t for device in gang)
    return rating, rating


def _free(devices: list[Device]) -> list[Device]:
    return [device for device in devices if device.free]


def _written(
    request: QuoteRequest,
    rates: Rates,
    caps: Caps,
    credit: Credit,
    where: tuple[int | None, list[Device]],
) -> Quote:
    place, devices = where
    suitable = [d for d in devices if request.device_class in (None, d.device_class)]
    cover = credit.vouchers_micros + max(0, credit.wallet_micros)
    covered = running_ms_for(cover, rates.high, rates.price_micros)
    stops, most = _bounds(caps, rates)
    quote = Quote(
        devices=request.devices,
        device_class=request.device_class,
        price_cny_per_th=format_micros(rates.price_micros),
        rating_t_low=format_micros(rates.low),
        rating_t_high=format_micros(rates.high),
        cny_per_hour_low=rates.cny_per_hour(rates.low),
        cny_per_hour_high=rates.cny_per_hour(rates.high),
        free_devices=len(_free(suitable)),
        total_devices=len(suitable),
        place=place,
        at_most_cny=None if most is None else format_cny(most),
        stops_after_s=None if stops is None else stops // 1000,
        vouchers_cny=format_cny(credit.vouchers_micros),
        wallet_cny=format_cny(credit.wallet_micros),
        covered_s=None if covered is None else covered // 1000,
        line="",
        lines=[],
    )
    return quote.model_copy(
        update={"line": _line(quote, rates, credit), "lines": _lines(quote, rates, credit)}
    )


def _bounds(caps: Caps, rates: Rates) -> tuple[int | None, int | None]:
    """When the caps end it at the soonest (ms), and the highest bill (micro-yuan)."""
    stops = left_ms(caps, Spent(0, 0), rating_micro_t=rates.high, price_micros=rates.price_micros)
    if stops is None:
        return None, None
    by_time = caps.max_time_ms
    most = [caps.max_cost_micros] if caps.max_cost_micros is not None else []
    if by_time is not None:
        most.append(ceil_to_fen(cost_of(by_time, rates.high, rates.price_micros)))
    return stops, min(most)


def _line(quote: Quote, rates: Rates, credit: Credit) -> str:
    """The one line that is said as a run starts."""
    capped = f", at most CNY {quote.at_most_cny}" if quote.at_most_cny is not None else ""
    return f"{rates.words}{capped}{_cover(quote, credit)}"


def _lines(quote: Quote, rates: Rates, credit: Credit) -> list[str]:
    noun = "device" if quote.devices == 1 else "devices"
    rating = quote.rating_t_high
    if quote.rating_t_low != rating:
        rating = f"{quote.rating_t_low} to {rating}"
    of = f" of class {quote.device_class}" if quote.device_class else ""
    lines = [
        f"{rates.words}: {quote.devices} {noun}{of}, together {rating} T, at CNY "
        f"{quote.price_cny_per_th} a T·H; only the time in which all ranks run is billed."
    ]
    if quote.stops_after_s is not None:
        lines.append(
            f"With your caps: at most CNY {quote.at_most_cny}; it is asked to checkpoint and "
            f"stopped after {span(quote.stops_after_s * 1000)} at the soonest."
        )
    have = f"{quote.free_devices} of {quote.total_devices} devices{of} are free"
    lines.append(
        f"It would start at once: {have}."
        if quote.place is None
        else f"It would wait, place {quote.place} in the queue: {have}."
    )
    lines.append(
        f"You have CNY {quote.vouchers_cny} in vouchers and CNY {quote.wallet_cny} in your wallet"
        f"{_cover(quote, credit)}."
    )
    return lines


def _cover(quote: Quote, credit: Credit) -> str:
    """How long the money at hand lasts, in the words of what there is of it."""
    names = [
        name
        for name, micros in (("vouchers", credit.vouchers_micros), ("wallet", credit.wallet_micros))
        if micros > 0
    ]
    if not names:
        return "; nothing covers it yet, the bill comes after the run"
    who = f"; your {' and '.join(names)}"
    if quote.covered_s is None or (
        quote.stops_after_s is not None and (quote.covered_s >= quote.stops_after_s)
    ):
        return f"{who} {_verb(names)} all of this"
    return f"{who} {_verb(names)} {span(quote.covered_s // 60 * 60_000)} of this"


def _verb(names: list[str]) -> str:
    return "covers" if names == ["wallet"] else "cover"
