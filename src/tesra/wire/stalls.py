"""Ranks that make no progress while others wait: the fact, and how it is said."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from tesra.kit.saying import Said, said
from tesra.wire.common import Wire

MAX_STALLED = 64
_NAMED = 4


class StalledRank(Wire):
    rank: int = Field(ge=0)
    node: str = Field(max_length=256)


class Stalled(Wire):
    """A gang stands still since ``since``, for ``idle_s`` so far; ``over``: it goes on again.

    ``ranks`` are those that the others wait for; empty when nobody can tell. ``waiting``: the rest.
    """

    kind: Literal["stalled"] = "stalled"
    over: bool = False
    since: datetime | None = None
    idle_s: int = Field(default=0, ge=0)
    ranks: list[StalledRank] = Field(default=[], max_length=MAX_STALLED)
    waiting: list[StalledRank] = Field(default=[], max_length=MAX_STALLED)


def told_words(fact: Stalled) -> Said:
    """At the moment when it is told: "rank 1 on node host/2 has made no progress for 22 s; …"."""
    if fact.over:
        return said("the ranks go on again")
    return _words(fact, said(f"for {fact.idle_s:d} s"))


def lasting_words(fact: Stalled) -> Said | None:
    """True for as long as it lasts; None when it is over."""
    if fact.over:
        return None
    if fact.since is None:
        return _words(fact, said(f"for {fact.idle_s:d} s"))
    clock = f"{fact.since.astimezone(UTC):%H:%M:%S}"
    return _words(fact, said(f"since {clock} UTC"))


def sentence(words: Said) -> Said:
    """For a timeline or a log."""
    return Said(f"{words[:1].upper()}{words[1:]}.")


def _words(fact: Stalled, span: Said) -> Said:
    ranks, waiting = _names(fact.ranks), _names(fact.waiting)
    if not fact.ranks:
        return said(
            f"no rank has made progress {span}: {waiting} waits"
            if len(fact.waiting) == 1
            else f"no rank has made progress {span}: {waiting} wait"
        )
    one_waits = len(fact.waiting) == 1
    if len(fact.ranks) == 1:
        waits = said("the other waits for it" if one_waits else "the others wait for it")
        return said(f"{ranks} has made no progress {span}; {waits}")
    waits = said("the other waits for them" if one_waits else "the others wait for them")
    return said(f"{ranks} have made no progress {span}; {waits}")


def _names(ranks: Sequence[StalledRank]) -> str:
    names = ", ".join(said(f"rank {one.rank:d} on node {one.node}") for one in ranks[:_NAMED])
    more = len(ranks) - _NAMED
    return said(f"{names} and {more:d} more") if more > 0 else names
