"""Which rank the others wait for, and that it is said once."""

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tesra.node.facts import combine, to_tell
from tesra.node.orders import AttemptStatus, Stage
from tesra.node.spool import Note, told
from tesra.node.stalls import AFTER_S, RankProgress, Wait, judge, news, sign
from tesra.wire.site import Started
from tesra.wire.stalls import Stalled, lasting_words, sentence, told_words

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
WAITS: tuple[Wait, ...] = ("asleep", "stopped", "disk", "network", "other")


def seen(rank: int, idle_s: float, wait: Wait = "other", **more: float) -> RankProgress:
    return RankProgress(rank, f"host/{rank + 1}", idle_s, silent_s=60.0, wait=wait, **more)


def spinning(rank: int) -> RankProgress:
    return seen(rank, 0.0, busy_s=60.0)


def named(*ranks: RankProgress) -> list[int] | None:
    stall = judge([ranks], now=NOW)
    return None if stall is None else [known.rank for known in stall.ranks]


def test_rank_that_sleeps_while_the_others_wait_is_named_with_its_node() -> None:
    stall = judge([[seen(0, 20.9, "network")], [seen(1, 22.1, "asleep")]], now=NOW)
    assert stall is not None
    assert told_words(stall) == (
        "rank 1 on node host/2 has made no progress for 22 s; the other waits for it"
    )
    assert lasting_words(stall) == (
        "rank 1 on node host/2 has made no progress since 11:59:37 UTC; the other waits for it"
    )


def test_rank_that_stood_still_first_by_a_margin_is_named() -> None:
    assert named(seen(0, 16), seen(1, 30), seen(2, 17)) == [1]
    assert named(seen(0, 16), seen(1, 18), seen(2, 17)) == []
    assert named(seen(0, 16), seen(1, 30, "network")) == []  # it may have waited for rank 0


def test_without_a_sign_all_that_wait_are_told() -> None:
    stall = judge([[seen(rank, 16) for rank in range(6)]], now=NOW)
    assert stall is not None
    assert stall.ranks == []
    words = sentence(told_words(stall))
    assert words.startswith("No rank has made progress for 16 s: rank 0 on node host/1, rank 1")
    assert words.endswith("and 2 more wait.")


def test_rank_that_computes_in_silence_is_waited_for_and_nobody_is_named() -> None:
    assert named(spinning(0), seen(1, 60, "network")) is None
    assert named(spinning(0), seen(1, 60)) is None


def test_rank_that_sleeps_while_the_others_spin_is_named() -> None:
    assert named(spinning(0), seen(1, 20, "asleep"), spinning(2)) == [1]
    writing = replace(spinning(2), silent_s=1.0)
    assert named(spinning(0), seen(1, 20, "asleep"), writing) is None


def test_single_rank_is_never_named() -> None:
    assert named(seen(0, 600, "asleep")) is None


def test_nothing_is_said_while_a_node_tells_nothing() -> None:
    assert judge([[seen(0, 60), seen(1, 60)], []], now=NOW) is None


def test_ranks_that_have_ended_hold_nobody_up() -> None:
    assert named(replace(seen(0, 90), ended=True), replace(seen(1, 90), ended=True)) is None
    assert named(replace(seen(0, 20), ended=True), seen(1, 90)) == []


def test_end_of_a_rank_that_the_others_waited_for_is_progress() -> None:
    assert named(replace(seen(0, 0.1), ended=True), seen(1, 90, "network")) is None


ranks = st.builds(
    RankProgress,
    rank=st.integers(0, 5),
    node=st.just("host"),
    idle_s=st.floats(0, 100),
    silent_s=st.floats(0, 100),
    busy_s=st.floats(0, 100),
    wait=st.sampled_from(WAITS),
    ended=st.booleans(),
)
gangs = st.lists(ranks, min_size=1, max_size=6, unique_by=lambda known: known.rank)


@given(gangs)
def test_only_ranks_that_do_nothing_are_named_and_never_all(gang: list[RankProgress]) -> None:
    stall = judge([gang], now=NOW)
    if stall is None:
        return
    idle = {known.rank for known in gang if known.idle_s >= AFTER_S and not known.ended}
    live = {known.rank for known in gang if not known.ended}
    culprits, waiting = ({known.rank for known in told} for told in (stall.ranks, stall.waiting))
    assert culprits <= idle
    assert culprits != live
    assert culprits | waiting == live
    assert not culprits & waiting


@given(gangs)
def test_gang_of_which_one_works_and_writes_is_never_told_of(gang: list[RankProgress]) -> None:
    working = RankProgress(9, "host", idle_s=0.0, silent_s=0.0, busy_s=90.0)
    assert judge([[*gang, working]], now=NOW) is None


@given(st.lists(st.sampled_from([None, "", "0", "1", "0,1"]), max_size=30))
def test_each_stall_is_told_once_and_so_is_its_end(states: list[str | None]) -> None:
    note, facts = Note(fence=1), []
    for state in states:
        fact = news(note.stalled, None if state is None else _stall(state))
        if fact is not None:
            note = told(note, [fact])
            facts.append(fact)
    kinds = [sign(fact) for fact in facts]
    for before, after in zip(["", *kinds], kinds, strict=False):
        assert (before == "") != (after == "") or (before == "?" and after not in ("", "?"))
    assert bool(note.stalled) == bool(states and states[-1] is not None)


def _stall(ranks: str) -> Stalled:
    names = [{"rank": int(rank), "node": "host"} for rank in ranks.split(",") if rank]
    return Stalled.model_validate({"ranks": names})


def test_stall_is_told_only_while_the_gang_runs() -> None:
    note = told(Note(fence=1), [Started(at=NOW)])
    stall = judge([[seen(0, 20, "network"), seen(1, 20, "asleep")]], now=NOW)
    running = AttemptStatus("att_1", 1, Stage.RUNNING, "running", NOW)
    assert to_tell(note, combine([running], stall=stall)) == [stall]
    storing = replace(running, stage=Stage.STORING)
    kinds = [fact.kind for fact in to_tell(note, combine([storing], stall=stall))]
    assert "stalled" not in kinds
