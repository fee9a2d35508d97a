"""Whatever happens to a run, in whatever order: its invariants hold."""

from hypothesis import given
from hypothesis import strategies as st

from tesra.kit.ids import AttemptId
from tesra.training.lifecycle import advance
from tesra.training.model import (
    AttemptEnded,
    CheckpointRef,
    Command,
    Outcome,
    PhaseSeen,
    Placed,
    PreparingSeen,
    RanksStarted,
    RestartRequested,
    RunLife,
    RunState,
    StallSeen,
    StopCause,
    StopRequested,
)

attempts = st.sampled_from([AttemptId(f"att_{n}") for n in range(6)])
events = st.one_of(
    st.builds(Placed, attempts),
    st.builds(PreparingSeen, attempts, st.just("building")),
    st.builds(PhaseSeen, attempts, st.just("storing")),
    st.builds(RanksStarted, attempts),
    st.builds(StallSeen, attempts, st.sampled_from([None, "rank 1 has made no progress"])),
    st.builds(StopRequested, st.sampled_from(StopCause)),
    st.builds(RestartRequested, st.sampled_from([None, "ckp_1", "ckp_2"]), st.just("rolled back")),
    st.builds(
        AttemptEnded,
        attempts,
        st.sampled_from(Outcome),
        st.integers(0, 255),
        checkpoint=st.sampled_from([None, CheckpointRef("ckp_1", 1), CheckpointRef("ckp_2", 2)]),
    ),
)
BILLS = {Command.BILL_USE, Command.BILL_NOTHING}


@given(st.lists(events, max_size=60), st.integers(0, 3))
def test_a_run_is_billed_exactly_once_and_never_changes_after_its_end(
    history: list, restarts: int
) -> None:
    run = RunLife(RunState.QUEUED, max_restarts=restarts)
    bills = 0
    held = 0
    wished = 0
    for event in history:
        before = run
        run, commands = advance(run, event)
        if before.state.terminal:
            assert run == before
            assert commands == []
        bills += len(BILLS & set(commands))
        wished += before.restart is not None and run.state is RunState.QUEUED
        held += before.state is RunState.QUEUED and run.state is RunState.PLACING
        held -= Command.RELEASE_DEVICES in commands
        assert held == run.state.live
        assert run.state.terminal == (Command.FORGET_SECRETS in commands or before.state.terminal)
        assert run.restart is None or (run.state.live and run.stop is None)
    assert bills == run.state.terminal
    assert run.restarts <= restarts
    assert run.attempts <= run.restarts + 1 + wished, "only what was lost counts as a restart"
