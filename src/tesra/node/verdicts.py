"""How a node's part of an attempt ended, in words for the user; and waiting that can be cut short."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from tesra.kit.errors import TesraError
from tesra.node.checkpoint_files import look
from tesra.node.checkpoint_store import OWN
from tesra.node.log_push import last_lines
from tesra.node.orders import Verdict
from tesra.node.ranks import RankExit
from tesra.node.workspace import AttemptFolders

Result = TypeVar("Result")

_LAST_WORDS_S = 2.0


@dataclass(frozen=True, slots=True)
class Left:
    """When a gang's last write can have been; ``orderly``: every rank has ended by itself."""

    at_ns: int
    orderly: bool


def how_left(exits: list[RankExit], ranks: int) -> Left:
    """How a gang that is gone by now has ended; counted from the first rank that was killed."""
    told = [ended for ended in exits if ended.helper is None]
    killed = [ended.ended_at for ended in told if ended.signal is not None]
    since_s = time.monotonic() - min(killed, default=time.monotonic())
    orderly = len(told) == ranks and not killed
    return Left(time.time_ns() - int(since_s * 1e9), orderly)


def last_sign(folders: AttemptFolders) -> Left:
    """For a gang that died with its agent: until when it surely lived."""
    written = [
        seen.mtime_ns
        for folder in ("logs", OWN, "work")
        for seen in look(folders.root, folder).values()
    ]
    return Left(min(max(written, default=0), time.time_ns()), orderly=False)


def judge(exits: list[RankExit], folders: AttemptFolders, node: str) -> Verdict:
    """The first rank that failed on this ``node`` decides; its last lines are the reason."""
    bad = next((rank_exit for rank_exit in exits if rank_exit.exit_code != 0), None)
    if bad is None:
        return Verdict("succeeded", exit_code=0)
    tail = last_lines(folders.log_of(bad.rank))
    words = f"{bad.words[:1].upper()}{bad.words[1:]} on node {node}.{_left_early(exits)}"
    reason = words + (f"\n{tail}" if tail else "")
    at = _failed_at(bad, folders)
    return Verdict("failed", exit_code=bad.exit_code, rank=bad.rank, reason=reason, at=at)


def _left_early(exits: list[RankExit]) -> str:
    """Who had ended well by then: often the cause, since the others wait for it in vain."""
    done = [str(left.rank) for left in exits if left.exit_code == 0 and left.helper is None]
    match done:
        case []:
            return ""
        case [rank]:
            return f" Rank {rank} had ended with exit code 0 while the others went on."
        case _:
            return f" Ranks {', '.join(done)} had ended with exit code 0 while the others went on."


def _failed_at(bad: RankExit, folders: AttemptFolders) -> float:
    """When it said why, if it did so at its end; else when its end was seen.

    A script's connections close while it ends, so one that failed because of it may be gone first;
    but what it says of its failure it has said before.
    """
    ended_at = time.time() - (time.monotonic() - bad.ended_at)
    with contextlib.suppress(OSError):
        said_at = folders.log_of(bad.rank).lstat().st_mtime
        if ended_at - _LAST_WORDS_S < said_at < ended_at:
            return said_at
    return ended_at


async def until(
    event: asyncio.Event, work: Coroutine[Any, Any, Result], signal: type[Exception]
) -> Result:
    """The work's result, or ``signal`` once the event is set and the work is cancelled."""
    doing = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return doing.result()
        doing.cancel()
        await asyncio.gather(doing, return_exceptions=True)
        raise signal
    finally:
        doing.cancel()
        waiting.cancel()


def span_ms(since: float, exits: list[RankExit]) -> int:
    """Until the first of these ends; until now while all run."""
    until = min((end.ended_at for end in exits), default=time.monotonic())
    return int(max(0.0, until - since) * 1000)


def words_of(error: TesraError) -> str:
    return f"{error.detail} {error.way_out}" if error.way_out else error.detail
