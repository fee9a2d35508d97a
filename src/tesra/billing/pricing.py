"""From usage to a bill's lines, purely.

A line is the sum over consecutive usage records of one attempt that have the same devices and
the same price, for one device class and rating. Sums are exact; each line is rounded down to the
micro-yuan once, the bill's total is rounded up to the fen once.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

from tesra.billing.model import (
    BillLine,
    Part,
    Price,
    PriceInvalid,
    RatedDevice,
    UsageInvalid,
    UsageRecord,
)
from tesra.kit.ids import AttemptId
from tesra.kit.money import MICROS, MS_PER_HOUR, ceil_to_fen, format_micros

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_PRICE_MICROS = 1_000_000 * MICROS


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive usage records of an attempt with the same devices (sorted) and the same price."""

    attempt_id: AttemptId
    devices: tuple[RatedDevice, ...]
    first_seq: int
    last_seq: int
    started_at: datetime
    ended_at: datetime
    duration_ms: int


def stretch_of(record: UsageRecord) -> Stretch:
    """One record as a stretch; :class:`UsageInvalid` if it could never be billed."""
    if record.seq < 0 or record.duration_ms < 0 or not record.devices:
        raise UsageInvalid
    if any(device[1] < 0 for device in record.devices):
        raise UsageInvalid("A device's rating is at or above zero.")
    if record.started_at.tzinfo is None or record.started_at < EPOCH:
        raise UsageInvalid
    return Stretch(
        attempt_id=record.attempt_id,
        devices=tuple(sorted(RatedDevice(*device) for device in record.devices)),
        first_seq=record.seq,
        last_seq=record.seq,
        started_at=record.started_at,
        ended_at=record.started_at + timedelta(milliseconds=record.duration_ms),
        duration_ms=record.duration_ms,
    )


def price_at(book: Sequence[Price], at: datetime) -> Price:
    """The price in force at a time: the latest that took effect at or before it.

    The book starts at the epoch, so there is always one.
    """
    return max(
        (price for price in book if price.effective_from <= at),
        key=lambda price: (price.effective_from, price.id),
    )


def bill_lines(
    stretches: Iterable[Stretch], book: Sequence[Price], parts: Sequence[Part]
) -> tuple[BillLine, ...]:
    """The lines of a bill, in the order of ``parts``, then of usage; other attempts are left out.

    Grouping is associative: stretches of one record each, or already merged ones, give the
    same lines, save that a merged stretch that a limit cuts still names its last record.
    """
    place = {part.attempt_id: index for index, part in enumerate(parts)}
    counted = [stretch for stretch in stretches if stretch.attempt_id in place]
    counted.sort(key=lambda stretch: (place[stretch.attempt_id], stretch.first_seq))
    limits = {part.attempt_id: part.until_ms for part in parts}
    return tuple(
        _line(stretch, price, device, count, parts[place[stretch.attempt_id]])
        for stretch, price in _merge(_within(counted, limits), book)
        for device, count in sorted(Counter(stretch.devices).items())
    )


def bill_amount(lines: Iterable[BillLine]) -> int:
    """The total in micro-yuan, rounded up to the fen."""
    return ceil_to_fen(sum(line.amount_micros for line in lines))


def total_micro_th(lines: Iterable[BillLine]) -> int:
    return sum(line.micro_th for line in lines)


def parse_price(text: str) -> int:
    """Micro-yuan per T·H of a price such as ``"0.5"``: from 0 up, six decimals at most."""
    try:
        micros = Decimal(text) * MICROS
    except InvalidOperation as error:
        raise PriceInvalid(f"'{text}' is not a price in yuan.") from error
    if not micros.is_finite() or not 0 <= micros <= MAX_PRICE_MICROS or micros % 1:
        limit = format_micros(MAX_PRICE_MICROS)
        raise PriceInvalid(f"A price is from 0 to {limit} yuan, with six decimals at most.")
    return int(micros)


def line_amount(device_ms: int, rating_micro_t: int, price_micros: int) -> int:
    """Micro-yuan, rounded down, of device-milliseconds at a rating and a price per T·H."""
    return device_ms * rating_micro_t * price_micros // (MS_PER_HOUR * MICROS)


def cost_of(duration_ms: int, rating_micro_t: int, price_micros: int) -> int:
    """Micro-yuan, rounded up, of devices of together this rating: never less than they are billed."""
    return -(-duration_ms * rating_micro_t * price_micros // (MS_PER_HOUR * MICROS))


def running_ms_for(micros: int, rating_micro_t: int, price_micros: int) -> int | None:
    """How long devices of together this rating run for so much; None when they cost nothing."""
    rate = rating_micro_t * price_micros
    return micros * MS_PER_HOUR * MICROS // rate if rate else None


def explain(line: BillLine) -> str:
    """One line in words: interval, devices, rating, T·H, price."""
    plural = "s" if line.devices != 1 else ""
    return (
        f"{_whose(line)}: {_clock(line.started_at)} to {_clock(line.ended_at)}, "
        f"{line.duration_ms / 1000:.3f} s on {line.devices} device{plural} {line.device_class} "
        f"of {format_micros(line.rating_micro_t)} T: {format_micros(line.micro_th)} T·H "
        f"at CNY {format_micros(line.price_micros)} a T·H = CNY {format_micros(line.amount_micros)}"
    )


def _within(
    ordered: Iterable[Stretch], limits: Mapping[AttemptId, int | None]
) -> Iterator[Stretch]:
    """Of each attempt its first so many ms; what reaches beyond is cut, what begins beyond is out."""
    used_ms: Counter[AttemptId] = Counter()
    for stretch in ordered:
        limit = limits[stretch.attempt_id]
        left_ms = stretch.duration_ms if limit is None else limit - used_ms[stretch.attempt_id]
        if left_ms <= 0 < stretch.duration_ms:
            continue
        used_ms[stretch.attempt_id] += stretch.duration_ms
        excess_ms = max(0, stretch.duration_ms - left_ms)
        yield replace(
            stretch,
            duration_ms=stretch.duration_ms - excess_ms,
            ended_at=stretch.ended_at - timedelta(milliseconds=excess_ms),
        )


def _merge(ordered: Iterable[Stretch], book: Sequence[Price]) -> list[tuple[Stretch, Price]]:
    merged: list[tuple[Stretch, Price]] = []
    for stretch in ordered:
        price = price_at(book, stretch.started_at)
        if merged and _continues(merged[-1], stretch, price):
            last = merged[-1][0]
            merged[-1] = (_join(last, stretch), price)
        else:
            merged.append((stretch, price))
    return merged


def _continues(last: tuple[Stretch, Price], stretch: Stretch, price: Price) -> bool:
    before, before_price = last
    return (
        before.attempt_id == stretch.attempt_id
        and before.devices == stretch.devices
        and before_price.id == price.id
    )


def _join(last: Stretch, stretch: Stretch) -> Stretch:
    return replace(
        last,
        last_seq=stretch.last_seq,
        started_at=min(last.started_at, stretch.started_at),
        ended_at=max(last.ended_at, stretch.ended_at),
        duration_ms=last.duration_ms + stretch.duration_ms,
    )


def _line(stretch: Stretch, price: Price, device: RatedDevice, count: int, part: Part) -> BillLine:
    device_ms = stretch.duration_ms * count
    return BillLine(
        attempt_id=stretch.attempt_id,
        attempt=part.number,
        first_seq=stretch.first_seq,
        last_seq=stretch.last_seq,
        started_at=stretch.started_at,
        ended_at=stretch.ended_at,
        duration_ms=stretch.duration_ms,
        devices=count,
        device_class=device.device_class,
        rating_micro_t=device.rating_micro_t,
        price_id=price.id,
        price_micros=price.micros_per_th,
        micro_th=device_ms * device.rating_micro_t // MS_PER_HOUR,
        amount_micros=line_amount(device_ms, device.rating_micro_t, price.micros_per_th),
        until_ms=part.until_ms,
    )


def _whose(line: BillLine) -> str:
    attempt = f"attempt {line.attempt}{_until(line)}"
    return attempt if line.trial is None else f"trial {line.trial} ({line.run_id}), {attempt}"


def _clock(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _until(line: BillLine) -> str:
    if line.until_ms is None:
        return ""
    seconds = line.until_ms // 1000
    at = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f", up to its checkpoint at {at} (what it did after that was lost, and is free)"
