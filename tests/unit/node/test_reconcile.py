"""The list is the whole truth: what is new begins, what is told to stop stops, the rest dies."""

from tesra.node.reconcile import Begin, Forget, Kill, Lose, NeverRan, Stop, decide
from tesra.node.spool import Note
from tesra.wire.site import Assignment, EngineSpec, RunSpec

SPEC = RunSpec(
    owner="u", project="p", snapshot="s", snapshot_root="r",
    engine=EngineSpec(name="e", version="1", requirements=[], python=">=3.10", announce="torch"),
    packages=[], entry="train.py", args=[], output="out", launch="gang", params={}, env={}, secrets={},
)  # fmt: skip
WANTED = Assignment(run="run_1", attempt="att_1", number=1, fence=3, devices=[], spec=SPEC)
STOPPED = WANTED.model_copy(update={"stop": "user"})
HERE = {"att_1": frozenset({"nod_1"})}
NOTE = Note(fence=3, nodes=("nod_1",), started=True)
ENDED = Note(fence=3, nodes=("nod_1",), started=True, ended=True)


def test_new_attempt_begins() -> None:
    assert decide([WANTED], {}, {}) == [Begin(WANTED)]


def test_running_attempt_is_left_alone() -> None:
    assert decide([WANTED], {"att_1": NOTE}, HERE) == []


def test_attempt_that_no_node_got_begins_again() -> None:
    assert decide([WANTED], {"att_1": Note(fence=3, nodes=("nod_1",))}, {}) == [Begin(WANTED)]


def test_attempt_that_ran_and_is_gone_is_lost_and_never_begun_again() -> None:
    assert decide([WANTED], {"att_1": NOTE}, {}) == [Lose("att_1")]


def test_stop_reaches_a_running_attempt() -> None:
    assert decide([STOPPED], {"att_1": NOTE}, HERE) == [Stop(STOPPED)]


def test_stop_before_the_beginning_is_answered() -> None:
    assert decide([STOPPED], {}, {}) == [NeverRan(STOPPED)]


def test_unlisted_attempt_is_killed() -> None:
    assert decide([], {"att_1": NOTE}, HERE) == [Kill("att_1")]


def test_attempt_of_an_older_fence_is_killed() -> None:
    old = Note(fence=2, nodes=("nod_1",), started=True)
    assert decide([WANTED], {"att_1": old}, HERE) == [Kill("att_1")]


def test_gang_that_no_journal_knows_is_killed() -> None:
    assert decide([], {}, HERE) == [Kill("att_1")]


def test_ended_attempt_is_kept_until_the_server_has_taken_it_off_the_list() -> None:
    assert decide([WANTED], {"att_1": ENDED}, HERE) == []
    assert decide([], {"att_1": ENDED}, HERE) == [Forget("att_1")]
