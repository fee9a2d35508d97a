"""Which rank of a gang the others wait for, from what each node sees of its ranks. Pure.

A rank makes progress when it writes, uses a device, or uses the CPU. In a collective all ranks
soon stand still, so the one that does *not* wait for another is looked for: first one that sleeps,
was stopped, or hangs in a disk; then the one that stood still first, by a clear margin. Ranks that
spin while they wait (as NCCL does) use the CPU: with them only a rank that surely does not wait
for another is named, so that others may wait for a rank that computes in silence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from tesra.wire.stalls import MAX_STALLED, Stalled, StalledRank

AFTER_S = 15.0
MARGIN_S = 5.0  # samples are 2 s apart, and so are the reports of nodes
UNNAMED = "?"

Wait = Literal["asleep", "stopped", "disk", "network", "other"]
_HELD: frozenset[Wait] = frozenset({"asleep", "stopped", "disk"})


@dataclass(frozen=True, slots=True)
class RankProgress:
    """How long a rank has made no progress, written nothing, and used all that it can.

    ``wait``: what its process is blocked in, as far as the kernel tells. An end is progress too:
    one that has ended is idle since then.
    """

    rank: int
    node: str
    idle_s: float
    silent_s: float = 0.0
    busy_s: float = 0.0
    wait: Wait = "other"
    ended: bool = False


def judge(
    nodes: Sequence[Sequence[RankProgress]],
    *,
    now: datetime | None = None,
    after_s: float = AFTER_S,
) -> Stalled | None:
    """The stall that a gang is in, by the ranks of each of its nodes; None while one tells nothing."""
    ranks = [rank for node in nodes for rank in node] if all(nodes) else []
    live = [rank for rank in ranks if not rank.ended]
    idle = [rank for rank in live if rank.idle_s >= after_s]
    just_ended = any(rank.ended and rank.idle_s < after_s for rank in ranks)
    if len(ranks) < 2 or not idle or just_ended:
        return None
    if len(idle) == len(live):
        named = _held_up(idle, live) or _first(idle, min(MARGIN_S, after_s))
    elif all(min(r.busy_s, r.silent_s) >= after_s for r in live if r not in idle):
        named = _held_up(idle, live)
        if not named:
            return None
    else:
        return None
    idle_s = min(rank.idle_s for rank in named or ranks)
    return Stalled(
        since=(now or datetime.now(UTC)) - timedelta(seconds=idle_s),
        idle_s=int(idle_s),
        ranks=_told(named),
        waiting=_told([rank for rank in live if rank not in named]),
    )


def sign(stall: Stalled | None) -> str:
    """What is noted of a stall that was told; empty for none."""
    if stall is None or stall.over:
        return ""
    return ",".join(str(known.rank) for known in stall.ranks) or UNNAMED


def news(told: str, stall: Stalled | None) -> Stalled | None:
    """What is to be said after ``told``: each stall once, its culprit when it is known, its end."""
    now = sign(stall)
    if told and stall is None:
        return Stalled(over=True)
    if stall is not None and now != told and told in ("", UNNAMED):
        return stall
    return None


def _held_up(idle: Sequence[RankProgress], live: Sequence[RankProgress]) -> list[RankProgress]:
    """Those that surely wait for no other rank; none if that tells them from nobody."""
    held = [rank for rank in idle if rank.wait in _HELD]
    return held if len(held) < len(live) else []


def _first(idle: Sequence[RankProgress], margin_s: float) -> list[RankProgress]:
    """The one that has stood still for longest, unless it may well wait for another."""
    if len(idle) < 2:
        return []
    first, second, *_ = sorted(idle, key=lambda rank: -rank.idle_s)
    if first.idle_s - second.idle_s < margin_s:
        return []
    waits = first.wait == "network" and any(rank.wait != "network" for rank in idle)
    return [] if waits else [first]


def _told(ranks: Sequence[RankProgress]) -> list[StalledRank]:
    ordered = sorted(ranks, key=lambda rank: rank.rank)
    return [StalledRank(rank=rank.rank, node=rank.node) for rank in ordered[:MAX_STALLED]]
