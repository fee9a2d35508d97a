"""The life of a run, step by step."""

import pytest

from tesra.kit.ids import AttemptId
from tesra.training.lifecycle import advance
from tesra.training.model import (
    AttemptEnded,
    Command,
    Outcome,
    Placed,
    PreparingSeen,
    RanksStarted,
    RunEvent,
    RunLife,
    RunState,
    StopCause,
    StopRequested,
)

ONE, TWO = AttemptId("att_1"), AttemptId("att_2")
QUEUED = RunLife(RunState.QUEUED)


def after(*events: RunEvent, run: RunLife = QUEUED) -> tuple[RunLife, list[Command]]:
    commands: list[Command] = []
    for event in events:
        run, new = advance(run, event)
        commands += new
    return run, commands


RUNNING = (Placed(ONE), PreparingSeen(ONE, "building"), RanksStarted(ONE))


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome.SUCCEEDED, RunState.SUCCEEDED),
        (Outcome.FAILED, RunState.FAILED),
        (Outcome.STOPPED, RunState.STOPPED),
    ],
)
def test_a_run_that_ran_is_billed_at_its_end(outcome: Outcome, state: RunState) -> None:
    run, commands = after(*RUNNING, AttemptEnded(ONE, outcome, exit_code=0))
    assert run.state is state
    assert Command.BILL_USE in commands
    assert Command.RELEASE_DEVICES in commands


def test_a_run_that_could_not_be_prepared_fails_at_no_charge() -> None:
    run, commands = after(Placed(ONE), AttemptEnded(ONE, Outcome.REFUSED, reason="no such package"))
    assert (run.state, run.reason) == (RunState.FAILED, "no such package")
    assert Command.BILL_NOTHING in commands


def test_a_lost_attempt_is_queued_again_and_not_billed_yet() -> None:
    run, commands = after(*RUNNING, AttemptEnded(ONE, Outcome.LOST, reason="node gone"))
    assert (run.state, run.attempt, run.attempts) == (RunState.QUEUED, None, 1)
    assert Command.RELEASE_DEVICES in commands
    assert not {Command.BILL_USE, Command.BILL_NOTHING} & set(commands)


def test_after_too_many_losses_the_run_fails_at_no_charge() -> None:
    run = QUEUED
    for number in range(1, 5):
        attempt = AttemptId(f"att_{number}")
        run, commands = after(Placed(attempt), AttemptEnded(attempt, Outcome.LOST), run=run)
    assert run.state is RunState.FAILED
    assert Command.BILL_NOTHING in commands


def test_stopping_a_queued_run_ends_it_at_once() -> None:
    run, commands = after(StopRequested(StopCause.USER))
    assert run.state is RunState.STOPPED
    assert Command.BILL_NOTHING in commands


def test_stopping_a_running_run_asks_its_site_once() -> None:
    run, commands = after(*RUNNING, StopRequested(StopCause.USER), StopRequested(StopCause.USER))
    assert (run.state, run.stop) == (RunState.RUNNING, StopCause.USER)
    assert commands.count(Command.TELL_SITE) == 1


def test_a_script_that_dies_of_our_sigterm_was_stopped_not_failed() -> None:
    run, _ = after(*RUNNING, StopRequested(StopCause.USER), AttemptEnded(ONE, Outcome.FAILED, 143))
    assert run.state is RunState.STOPPED


def test_a_stopped_run_whose_node_is_lost_is_not_queued_again() -> None:
    run, _ = after(*RUNNING, StopRequested(StopCause.USER), AttemptEnded(ONE, Outcome.LOST))
    assert run.state is RunState.STOPPED


def test_a_fact_of_an_older_attempt_changes_nothing() -> None:
    lost = (*RUNNING, AttemptEnded(ONE, Outcome.LOST), Placed(TWO))
    run, _ = after(*lost)
    assert advance(run, AttemptEnded(ONE, Outcome.SUCCEEDED)) == (run, [])
    assert advance(run, RanksStarted(ONE)) == (run, [])


def test_a_repeated_fact_changes_nothing() -> None:
    run, _ = after(*RUNNING)
    assert advance(run, RanksStarted(ONE)) == (run, [])
    assert advance(run, Placed(TWO)) == (run, [])
