"""Ranks that make no progress while others wait: the fact, and how it is said."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

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


def told_words(fact: Stalled) -> str:
    """At the moment when it is told: "rank 1 on node host/2 has made no progress for 22 s; …"."""
    return "the ranks go on again" if fact.over else _words(fact, f"for {fact.idle_s} s")


def lasting_words(fact: Stalled) -> str | None:
    """True for as long as it lasts; None when it is over."""
    if fact.over:
        return None
    since = fact.since.astimezone(UTC) if fact.since is not None else None
    return _words(fact, f"since {since:%H:%M:%S} UTC" if since else f"for {fact.idle_s} s")


def sentence(words: str) -> str:
    """For a timeline or a log."""
    return f"{words[:1].upper()}{words[1:]}."


def _words(fact: Stalled, span: str) -> str:
    if not fact.ranks:
        wait = "waits" if len(fact.waiting) == 1 else "wait"
        return f"no rank has made progress {span}: {_names(fact.waiting)} {wait}"
    have = "has" if len(fact.ranks) == 1 else "have"
    whom = "it" if len(fact.ranks) == 1 else "them"
    waits = "the other waits" if len(fact.waiting) == 1 else "the others wait"
    return f"{_names(fact.ranks)} {have} made no progress {span}; {waits} for {whom}"


def _names(ranks: Sequence[StalledRank]) -> str:
    names = [f"rank {known.rank} on node {known.node}" for known in ranks[:_NAMED]]
    more = len(ranks) - _NAMED
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")
