"""What the server is told of a gang: everything once, in order, never overlapping."""

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tesra.node.facts import combine, to_tell
from tesra.node.orders import AttemptStatus, Stage, Verdict
from tesra.node.spool import Note, told
from tesra.wire.site import Ended, Preparing, Started, Usage

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOTE = Note(fence=1, nodes=("nod_1",))


def status(
    stage: Stage, *, ran_ms: int = 0, phase: str = "p", verdict: Verdict | None = None
) -> AttemptStatus:
    started = NOW if stage is not Stage.PREPARING else None
    return AttemptStatus("att_1", 1, stage, phase, started, ran_ms, verdict)


def test_phase_that_may_be_over_at_once_is_not_told_yet() -> None:
    young = replace(status(Stage.PREPARING, phase="building"), settled=False)
    assert to_tell(NOTE, combine([young])) == []
    storing = replace(status(Stage.STORING, ran_ms=50, phase="storing"), settled=False)
    assert [type(fact) for fact in to_tell(NOTE, combine([storing]))] == [Started, Usage]


def test_phase_is_told_when_it_changes_only() -> None:
    facts = to_tell(NOTE, combine([status(Stage.PREPARING, phase="building")]))
    assert facts == [Preparing(phase="building")]
    assert to_tell(told(NOTE, facts), combine([status(Stage.PREPARING, phase="building")])) == []


def test_use_is_reported_every_ten_seconds_while_it_runs() -> None:
    note = told(NOTE, [Started(at=NOW)])
    assert to_tell(note, combine([status(Stage.RUNNING, ran_ms=9_999)])) == []
    (used,) = to_tell(note, combine([status(Stage.RUNNING, ran_ms=10_001)]))
    assert isinstance(used, Usage)
    assert (used.number, used.duration_ms, used.started_at) == (1, 10_001, NOW)


def test_last_use_comes_before_the_end() -> None:
    over = status(Stage.ENDED, ran_ms=3, verdict=Verdict("succeeded", exit_code=0))
    kinds = [fact.kind for fact in to_tell(NOTE, combine([over]))]
    assert kinds == ["started", "usage", "ended"]


@given(st.lists(st.integers(0, 2_000_000), min_size=1, max_size=20))
def test_records_cover_exactly_what_ran_however_often_we_look(looks: list[int]) -> None:
    note, records = NOTE, []
    for place, ran_ms in enumerate(sorted(looks)):
        stage = Stage.ENDED if place == len(looks) - 1 else Stage.RUNNING
        facts = to_tell(note, combine([status(stage, ran_ms=ran_ms, verdict=Verdict("succeeded"))]))
        note = told(note, facts)
        records += [fact for fact in facts if isinstance(fact, Usage)]
    assert sum(record.duration_ms for record in records) == max(looks)
    assert [record.number for record in records] == list(range(1, len(records) + 1))
    ends = [int((r.started_at - NOW).total_seconds() * 1000 + 0.5) + r.duration_ms for r in records]
    begins = [int((r.started_at - NOW).total_seconds() * 1000 + 0.5) for r in records]
    assert begins == [0, *ends][: len(begins)]


def test_gang_has_run_as_long_as_its_shortest_node_and_ends_as_its_worst() -> None:
    gang = combine(
        [
            status(Stage.ENDED, ran_ms=500, verdict=Verdict("stopped")),
            status(Stage.ENDED, ran_ms=400, verdict=Verdict("failed", exit_code=3, rank=1)),
        ]
    )
    assert (gang.ran_ms, gang.broken) == (400, False)
    (*_, end) = to_tell(NOTE, gang)
    assert isinstance(end, Ended)
    assert (end.outcome, end.exit_code, end.rank) == ("failed", 3, 1)


def test_lost_node_makes_the_gang_lost_though_ranks_elsewhere_failed_of_it() -> None:
    lost = Verdict("lost", reason="Node b was lost.", at=5.0)
    parts = [
        status(Stage.ENDED, verdict=Verdict("failed", exit_code=1, rank=0, at=4.0)),
        status(Stage.ENDED, verdict=lost),
        status(Stage.ENDED, verdict=Verdict("lost", reason="Told to end.")),
    ]
    assert combine(parts).verdict == lost


def test_first_rank_that_failed_is_named_whatever_node_it_was_on() -> None:
    parts = [
        status(Stage.ENDED, verdict=Verdict("failed", exit_code=1, rank=0, at=10.2)),
        status(Stage.ENDED, verdict=Verdict("failed", exit_code=3, rank=1, at=10.1)),
    ]
    verdict = combine(parts).verdict
    assert verdict is not None
    assert verdict.rank == 1


def test_one_node_that_failed_breaks_a_gang_whose_others_go_on() -> None:
    parts = [status(Stage.RUNNING), status(Stage.STORING, verdict=Verdict("failed", exit_code=1))]
    assert combine(parts).broken
