"""How a node's part of an attempt ended, in words for the user; and waiting that can be cut short."""

import asyncio
import contextlib
import math
import re
import signal
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from tesra.kit.saying import Said, said
from tesra.node.checkpoint_files import look
from tesra.node.checkpoint_store import OWN
from tesra.node.failing import noted
from tesra.node.last_lines import last_lines
from tesra.node.orders import Verdict, by_cause
from tesra.node.ranks import RankExit
from tesra.node.workspace import AttemptFolders

Result = TypeVar("Result")

_LAST_WORDS_S = 2.0
_SEEN_LATE_S = 0.2  # a busy machine takes so long to see an end that others have felt already
_LAST_CHARS = 1000
# What frameworks say of a rank whose connection to another is gone.
_LOST_ANOTHER = re.compile(
    r"connection (was )?(closed|reset|refused|aborted)|closed by (remote )?peer|broken pipe"
    r"|socket closed|remote (worker|process)|nccl\w*(remote|system)\w*error|heartbeat"
    r"|coordination (service|agent)|failed to connect",
    re.IGNORECASE,
)
_KILLED = {signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}


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


def judge(
    exits: list[RankExit],
    folders: AttemptFolders,
    node: str,
    *,
    after: Sequence[RankExit] = (),
    told_at: float = math.inf,
) -> Verdict:
    """The rank of this ``node`` that failed first decides; its last lines are the reason.

    ``after``: how the others ended once they were told to, at ``told_at``. Of those only they count
    that had begun to fail before: the first in time need not be the first that was gone.
    """
    failures = [
        _failure(bad, _failed_at(bad, folders), folders, node, _left_early(exits))
        for bad in exits
        if bad.exit_code != 0
    ]
    if not failures:
        return Verdict("succeeded", exit_code=0)
    late = [left for left in after if left not in exits]
    return min([*failures, *_failing_before(told_at, late, folders, node)], key=by_cause)


def failed_before(
    told_at: float, exits: list[RankExit], folders: AttemptFolders, node: str
) -> Verdict | None:
    """For a gang that was told to stop: whether one of its ranks had begun to fail by then."""
    return min(_failing_before(told_at, exits, folders, node), key=by_cause, default=None)


def _failing_before(
    moment: float, exits: Sequence[RankExit], folders: AttemptFolders, node: str
) -> list[Verdict]:
    """Ranks that noted before ``moment`` that they fail, with the exit code that they noted."""
    found = [(noted(folders, left.rank), left) for left in exits if left.helper is None]
    return [
        _failure(
            replace(left, exit_code=failing.exit_code, signal=None),
            failing.at,
            folders,
            node,
        )
        for failing, left in found
        if failing is not None and failing.at < moment
    ]


def _failure(
    bad: RankExit, at: float, folders: AttemptFolders, node: str, beside: Said | None = None
) -> Verdict:
    tail = last_lines(folders.log_of(bad.rank))
    words = said(f"{bad.words} on node {node}.")
    words = Said(f"{words} {beside}") if beside else words
    return Verdict(
        "failed",
        exit_code=bad.exit_code,
        rank=bad.rank,
        reason=Said(f"{words}\n{tail}") if tail else words,
        at=at,
        in_wake=bad.signal not in _KILLED and _LOST_ANOTHER.search(tail[-_LAST_CHARS:]) is not None,
    )


def _left_early(exits: list[RankExit]) -> Said | None:
    """Who had ended well by then: often the cause, since the others wait for it in vain."""
    done = [left.rank for left in exits if left.exit_code == 0 and left.helper is None]
    match done:
        case []:
            return None
        case [rank]:
            return said(f"Rank {rank:d} had ended with exit code 0 while the others went on.")
        case _:
            ranks = ", ".join(map(str, done))
            return said(f"Ranks {ranks} had ended with exit code 0 while the others went on.")


def _failed_at(bad: RankExit, folders: AttemptFolders) -> float:
    """When it noted that it fails; else when it said why, if at its end; else when it was gone.

    A script's connections close while it ends, so one that failed because of it may be gone first;
    but what it says of its failure it has said before. One that the kernel killed has no time to
    say a word, and its connections are closed before its end can be seen.
    """
    if bad.helper is None and (failing := noted(folders, bad.rank)) is not None:
        return failing.at
    ended_at = time.time() - (time.monotonic() - bad.ended_at)
    with contextlib.suppress(OSError):
        said_at = folders.log_of(bad.rank).lstat().st_mtime
        if ended_at - _LAST_WORDS_S < said_at < ended_at:
            return said_at
    return ended_at - _SEEN_LATE_S if bad.signal in _KILLED else ended_at


async def until(
    event: asyncio.Event, work: Coroutine[Any, Any, Result], cut: type[Exception]
) -> Result:
    """The work's result, or ``cut`` raised once the event is set and the work is cancelled."""
    doing = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return doing.result()
        doing.cancel()
        await asyncio.gather(doing, return_exceptions=True)
        raise cut
    finally:
        doing.cancel()
        waiting.cancel()


def span_ms(since: float, exits: list[RankExit]) -> int:
    """Until the first of these ends; until now while all run."""
    until = min((end.ended_at for end in exits), default=time.monotonic())
    return int(max(0.0, until - since) * 1000)
