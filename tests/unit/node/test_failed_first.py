"""Of ranks that failed on several nodes the one is named that failed first, not that was gone first."""

import os
import time
from pathlib import Path

from tesra.node.facts import combine
from tesra.node.orders import AttemptStatus, Stage
from tesra.node.ranks import RankExit
from tesra.node.verdicts import judge
from tesra.node.workspace import AttemptFolders, prepare


def failed(folder: Path, rank: int, *, said_ago_s: float, ended_ago_s: float) -> AttemptStatus:
    """A node whose only rank has failed."""
    folders: AttemptFolders = prepare(folder / f"node-{rank}", "att_1", "out")
    log = folders.log_of(rank)
    log.write_text(f"words of {rank}\n")
    said_at = time.time() - said_ago_s
    os.utime(log, (said_at, said_at))
    ended = RankExit(rank, 1, time.monotonic() - ended_ago_s)
    verdict = judge([ended], folders, f"host/{rank + 1}")
    return AttemptStatus("att_1", 1, Stage.ENDED, "ended", verdict=verdict)


def named(*parts: AttemptStatus) -> int | None:
    verdict = combine(parts).verdict
    assert verdict is not None
    return verdict.rank


def test_rank_that_said_first_why_it_fails_is_named_though_another_was_gone_before(
    tmp_path: Path,
) -> None:
    follower = failed(tmp_path, 0, said_ago_s=0.50, ended_ago_s=0.45)
    cause = failed(tmp_path, 1, said_ago_s=0.60, ended_ago_s=0.40)
    assert named(follower, cause) == 1


def test_words_of_long_ago_are_no_sign_of_when_a_rank_failed(tmp_path: Path) -> None:
    silent = failed(tmp_path, 0, said_ago_s=50, ended_ago_s=0.4)
    cause = failed(tmp_path, 1, said_ago_s=0.6, ended_ago_s=0.5)
    assert named(silent, cause) == 1


def test_rank_that_left_early_without_an_error_is_told_with_the_one_that_failed_for_it(
    tmp_path: Path,
) -> None:
    folders = prepare(tmp_path, "att_1", "out")
    now = time.monotonic()
    left = [RankExit(3, 0, now - 1), RankExit(2, 1, now)]
    reason = judge(left, folders, "host/1").reason or ""
    assert "Rank 3 had ended with exit code 0 while the others went on." in reason
    assert "had ended" not in (judge(left[1:], folders, "host/1").reason or "")
