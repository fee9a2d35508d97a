"""Which step a change is for, so that all ranks take it at the same one. Pure.

One change at a time, oldest first. A rank that is asked promises a limit: it does not begin the
step behind it before it knows the change's step. So the step behind the largest limit has been
begun by nobody, and nobody can pass it unknowing. docs/spec/tuning.md has the argument.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tesra.node.tuning.model import ROUNDS, Order, RankTuning, TuningReport
from tesra.wire.tuning import TuneOrder


def orders_now(wanted: Iterable[TuneOrder], parts: Sequence[TuningReport]) -> tuple[Order, ...]:
    """What every node of the gang should tell its ranks; ``parts``: each node's report.

    A change whose step has been named stays until it is made, also if it was withdrawn meanwhile.
    """
    held = _held(parts)
    ranks = [rank for part in parts for rank in part.ranks if not rank.gone]
    listed = {order.seq: Order(order.seq, order.values) for order in wanted}
    named = {seq: order for seq, order in held.items() if order.step is not None}
    orders: list[Order] = []
    for seq in sorted(listed.keys() | named.keys()):
        order = held.get(seq, listed.get(seq))
        assert order is not None, "it is listed or held"
        if order.step is not None and _made(order, ranks):
            if seq in listed:
                orders.append(order)
            continue
        after = _further(order, ranks)
        if after is None:
            break
        orders.append(after)
        if not after.failed:
            break
    return tuple(orders)


def _held(parts: Sequence[TuningReport]) -> dict[int, Order]:
    """The furthest that any node is with each change."""
    held: dict[int, Order] = {}
    for order in (order for part in parts for order in part.orders):
        known = held.get(order.seq)
        if known is None or _age(order) > _age(known):
            held[order.seq] = order
    return held


def _age(order: Order) -> tuple[bool, bool, int]:
    return order.step is not None, order.failed, order.round


def _made(order: Order, ranks: Sequence[RankTuning]) -> bool:
    return all(rank.step_of(order.seq) is not None for rank in ranks)


def _further(order: Order, ranks: Sequence[RankTuning]) -> Order | None:
    """The change one stage further if it can be; None while some rank counts no steps yet."""
    if order.step is not None or order.failed:
        return order
    if not ranks or not all(rank.live for rank in ranks):
        return None
    if any(rank.declined == (order.seq, order.round) for rank in ranks):
        if order.round >= ROUNDS:
            return replace(order, failed=True)
        return replace(order, round=order.round + 1)
    limits = [_limit(order, rank) for rank in ranks]
    known = [limit for limit in limits if limit is not None]
    return replace(order, step=max(known) + 1) if len(known) == len(limits) else order


def _limit(order: Order, rank: RankTuning) -> int | None:
    promise = rank.promise
    fits = promise is not None and (promise.seq, promise.round) == (order.seq, order.round)
    return promise.limit if promise is not None and fits else None


def merged(held: Sequence[Order], told: Sequence[Order]) -> tuple[Order, ...]:
    """What a node holds after it was told: a message that was overtaken takes nothing back."""
    known = {order.seq: order for order in held}
    return tuple(max(order, known.get(order.seq, order), key=_age) for order in told)
