"""From what the nodes report of an attempt's tuning to the fact for the server. Pure."""

import zlib
from collections.abc import Iterable, Sequence
from typing import Literal

from tesra.kit.saying import said
from tesra.node.tuning.model import ROUNDS, Order, RankTuning, TuningReport
from tesra.wire.tuning import MAX_RANKS, FoundParameter, RankTook, Tuned, TunedChange


def tuned(parts: Sequence[TuningReport | None]) -> Tuned | None:
    """The gang's tuning; None while there is nothing to say of it."""
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    ranks = sorted((rank for part in known for rank in part.ranks), key=lambda rank: rank.rank)
    orders = {order.seq: order for part in known for order in part.orders}
    changes = [change for order in orders.values() if (change := _change(order, ranks)) is not None]
    fact = Tuned(
        changes=sorted(changes, key=lambda change: change.seq),
        found=_found(ranks),
        readers=sorted({reader for rank in ranks for reader in rank.readers})[:20],
        stepping=[rank.rank for rank in ranks if rank.live],
    )
    return None if fact == Tuned() else fact


def digest(fact: Tuned) -> str:
    """Tells one fact from another."""
    return f"{zlib.crc32(fact.model_dump_json().encode()):08x}"


def _change(order: Order, ranks: Sequence[RankTuning]) -> TunedChange | None:
    if order.failed:
        slow = [rank.rank for rank in ranks if rank.declined == (order.seq, ROUNDS)]
        names = ", ".join(map(str, slow))
        reason = said(f"Asked {ROUNDS} times, rank {names} did not learn the step in time.")
        return TunedChange(seq=order.seq, state="failed", reason=reason)
    if order.step is None:
        return None
    took = [
        RankTook(rank=rank.rank, step=made.step, note=made.note)
        for rank in ranks
        for made in rank.took
        if made.seq == order.seq
    ]
    missing = [rank for rank in ranks if not rank.gone and rank.step_of(order.seq) is None]
    gone = [str(rank.rank) for rank in ranks if rank.gone and rank.step_of(order.seq) is None]
    gone_ranks = ", ".join(gone)
    ended = said(f"rank {gone_ranks} had ended before that step") if gone else None
    state: Literal["decided", "applied", "failed"] = "decided"
    if not missing:
        state = "applied" if took else "failed"
    return TunedChange(
        seq=order.seq, state=state, step=order.step, ranks=took[:MAX_RANKS], reason=ended
    )


def _found(ranks: Iterable[RankTuning]) -> list[FoundParameter]:
    """Each parameter once, as the lowest rank describes it."""
    found: dict[str, FoundParameter] = {}
    for rank in ranks:
        for parameter in rank.found:
            found.setdefault(parameter.name, parameter)
    return list(found.values())
