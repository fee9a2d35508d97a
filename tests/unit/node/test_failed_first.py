"""Of ranks that failed on several nodes the one is named that failed first, not that was gone first."""

import os
import time
from pathlib import Path

import pytest

from tesra.node.facts import combine
from tesra.node.failing import noted
from tesra.node.orders import AttemptStatus, Stage
from tesra.node.ranks import RankExit
from tesra.node.verdicts import failed_before, judge
from tesra.node.workspace import AttemptFolders, prepare


def failed(
    folder: Path, rank: int, *, said_ago_s: float, ended_ago_s: float, words: str = "words"
) -> AttemptStatus:
    """A node whose only rank has failed."""
    folders: AttemptFolders = prepare(folder / f"node-{rank}", "att_1", "out")
    log = folders.log_of(rank)
    log.write_text(f"{words}\n")
    said_at = time.time() - said_ago_s
    os.utime(log, (said_at, said_at))
    ended = RankExit(rank, 1, time.monotonic() - ended_ago_s)
    verdict = judge([ended], folders, f"host/{rank + 1}")
    return AttemptStatus("att_1", 1, Stage.ENDED, "ended", verdict=verdict)


def noting(folder: Path, rank: int, *, began_ago_s: float, note: str = "") -> AttemptFolders:
    """A node's folders, in which its only rank has noted that it fails."""
    folders = prepare(folder / f"node-{rank}", "att_1", "out")
    folders.tuned.mkdir()
    folders.params.write_text("{}")
    os.utime(folders.params, (time.time() - 60, time.time() - 60))
    at_ns = time.time_ns() - int(began_ago_s * 1e9)
    folders.failing_of(rank).write_text(note or f"{at_ns} 3")
    return folders


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


def test_rank_that_noted_first_that_it_fails_is_named_though_told_last(tmp_path: Path) -> None:
    now = time.monotonic()
    folders = noting(tmp_path, 1, began_ago_s=0.5)
    follower, cause = RankExit(0, 1, now - 0.3), RankExit(1, 3, now)
    for exits, after in (([follower, cause], []), ([follower], [follower, cause])):
        verdict = judge(exits, folders, "host/1", after=after)
        assert (verdict.rank, verdict.exit_code) == (1, 3)
    late = noting(tmp_path / "late", 1, began_ago_s=0.1)
    assert judge([follower], late, "host/1", after=[follower, cause]).rank == 0


def test_rank_that_was_ended_by_us_while_it_failed_is_named_with_what_it_would_have_ended_with(
    tmp_path: Path,
) -> None:
    folders = noting(tmp_path, 1, began_ago_s=0.5)
    killed = RankExit(1, 143, time.monotonic(), signal=15)
    verdict = failed_before(time.time() - 0.2, [killed], folders, "host/2")
    assert verdict is not None
    assert verdict.reason == "Rank 1 ended with exit code 3 on node host/2."
    assert failed_before(time.time() - 0.7, [killed], folders, "host/2") is None


@pytest.mark.parametrize(
    "words",
    [
        "RuntimeError: [third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer",
        "torch.distributed.DistBackendError: NCCL error: ncclRemoteError: remote process exited",
        "tensorflow.python.framework.errors_impl.UnavailableError: Socket closed",
        "jaxlib.xla_client.XlaRuntimeError: The coordination service has lost a task: heartbeat timeout",
        "BrokenPipeError: [Errno 32] Broken pipe",
    ],
)
def test_rank_that_lost_another_is_not_the_cause_though_it_ended_first(
    tmp_path: Path, words: str
) -> None:
    """A cause that puts its process group away is slower to end than who fails of that."""
    follower = failed(tmp_path, 0, said_ago_s=0.60, ended_ago_s=0.55, words=words)
    cause = failed(tmp_path, 1, said_ago_s=0.50, ended_ago_s=0.45)
    assert named(follower, cause) == 1
    alone = failed(tmp_path, 2, said_ago_s=0.50, ended_ago_s=0.45, words=words)
    assert named(follower, alone) == 0


@pytest.mark.parametrize(
    "note", ["", "soon 1", "-5 1", "1 1", "99999999999999999999 1", "1" * 64, "NOW 0"]
)
def test_note_that_cannot_be_is_not_believed(tmp_path: Path, note: str) -> None:
    said = note.replace("NOW", str(time.time_ns())) or " "
    folders = noting(tmp_path, 1, began_ago_s=0.5, note=said)
    assert noted(folders, 1) is None


def test_note_that_is_a_link_or_missing_is_not_followed(tmp_path: Path) -> None:
    folders = noting(tmp_path, 1, began_ago_s=0.5)
    elsewhere = tmp_path / "elsewhere"
    folders.failing_of(1).rename(elsewhere)
    assert noted(folders, 1) is None
    folders.failing_of(1).symlink_to(elsewhere)
    assert noted(folders, 1) is None


def test_rank_that_the_kernel_killed_comes_before_one_that_had_time_to_fail_of_it(
    tmp_path: Path,
) -> None:
    folders = prepare(tmp_path, "att_1", "out")
    now = time.monotonic()
    follower, killed = RankExit(0, 1, now - 0.1), RankExit(1, 137, now, signal=9)
    assert judge([follower, killed], folders, "host/1").rank == 1


def test_rank_that_left_early_without_an_error_is_told_with_the_one_that_failed_for_it(
    tmp_path: Path,
) -> None:
    folders = prepare(tmp_path, "att_1", "out")
    now = time.monotonic()
    left = [RankExit(3, 0, now - 1), RankExit(2, 1, now)]
    reason = judge(left, folders, "host/1").reason or ""
    assert "Rank 3 had ended with exit code 0 while the others went on." in reason
    assert "had ended" not in (judge(left[1:], folders, "host/1").reason or "")
