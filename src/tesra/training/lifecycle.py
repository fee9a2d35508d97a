"""The life cycle of a run as a pure state machine: ``advance(run, event) -> (run, commands)``.

    queued -> placing -> preparing -> running -> succeeded | failed
       any live state -> stopped (on request), or queued again: when the platform lost the attempt,
       or when its user wants it to begin again from a checkpoint

Invariants (tested with hypothesis): a terminal run never changes; an event of an attempt that is
not the present one changes nothing; each run is billed exactly once, when it becomes terminal;
devices are released exactly when an attempt ends.
"""

from dataclasses import replace

from tesra.kit.saying import Said, said
from tesra.training.model import (
    AttemptEnded,
    Command,
    Outcome,
    PhaseSeen,
    Placed,
    PreparingSeen,
    RanksStarted,
    Restart,
    RestartRequested,
    RunEvent,
    RunLife,
    RunState,
    StallSeen,
    StopRequested,
)

Step = tuple[RunLife, list[Command]]

_END = [Command.END_ATTEMPT, Command.RELEASE_DEVICES, Command.TELL_SITE, Command.WAKE_DISPATCHER]


def advance(run: RunLife, event: RunEvent) -> Step:
    """The run after ``event``, and what has to be done with it; nothing if the event is out of date."""
    if run.state.terminal:
        return run, []
    match event:
        case Placed():
            return _placed(run, event)
        case StopRequested():
            return _stop_requested(run, event)
        case RestartRequested():
            return _restart_requested(run, event)
        case _ if event.attempt != run.attempt or not run.state.live:
            return run, []
        case PreparingSeen():
            return _preparing(run, event)
        case PhaseSeen() | StallSeen():
            return _phase_seen(run, event)
        case RanksStarted():
            return _started(run)
        case AttemptEnded():
            return _ended(run, event)


def _placed(run: RunLife, event: Placed) -> Step:
    if run.state is not RunState.QUEUED:
        return run, []
    placed = replace(
        run,
        state=RunState.PLACING,
        attempt=event.attempt,
        attempts=run.attempts + 1,
        phase=None,
        reason=None,
    )
    return placed, []  # the dispatcher tells each site once for all its placements


def _preparing(run: RunLife, event: PreparingSeen) -> Step:
    if run.state is RunState.RUNNING:
        return run, []
    return replace(run, state=RunState.PREPARING, phase=event.phase), []


def _started(run: RunLife) -> Step:
    if run.state is RunState.RUNNING:
        return run, []
    return replace(run, state=RunState.RUNNING, phase=None), [Command.MARK_STARTED]


def _phase_seen(run: RunLife, event: PhaseSeen | StallSeen) -> Step:
    """Words only; those of an end that was asked for go before those of a stall."""
    ending = run.stop is not None or run.restart is not None
    if isinstance(event, StallSeen) and (ending or run.state is not RunState.RUNNING):
        return run, []
    return replace(run, phase=event.phase), []


def _stop_requested(run: RunLife, event: StopRequested) -> Step:
    if run.state is RunState.QUEUED:
        stopped = replace(
            run,
            state=RunState.STOPPED,
            stop=event.cause,
            phase=None,
            reason=event.words or said("Stopped before it started."),
        )
        return stopped, [_bill_kept(run), Command.FORGET_SECRETS]
    if run.stop is not None:
        return run, []
    reason = event.words or run.reason
    stopping = replace(run, stop=event.cause, restart=None, phase=said("stopping"), reason=reason)
    return stopping, [Command.TELL_SITE]


def _restart_requested(run: RunLife, event: RestartRequested) -> Step:
    """The present attempt is asked to end; the next one goes on from the chosen checkpoint."""
    if run.state is RunState.QUEUED:
        return replace(run, resume=event.checkpoint, reason=event.why), []
    if run.stop is not None:
        return run, []
    restart = Restart(event.checkpoint, event.why)
    return replace(run, restart=restart, phase=said("restarting")), [Command.TELL_SITE]


def _ended(run: RunLife, event: AttemptEnded) -> Step:
    if run.restart is not None and event.outcome not in (Outcome.SUCCEEDED, Outcome.REFUSED):
        return _restarted(run, run.restart)  # also when it died of our SIGTERM, or was lost
    if event.outcome is Outcome.LOST:
        return _lost(run, event)
    state, bill = {
        Outcome.SUCCEEDED: (RunState.SUCCEEDED, Command.BILL_USE),
        Outcome.FAILED: (RunState.FAILED, Command.BILL_USE),
        Outcome.STOPPED: (RunState.STOPPED, Command.BILL_USE),
        Outcome.REFUSED: (RunState.FAILED, _bill_kept(run)),
    }[event.outcome]
    if run.stop is not None and state is RunState.FAILED:
        state = RunState.STOPPED  # a script that dies of our SIGTERM did not fail
    reason = event.reason
    if run.stop is not None and state is RunState.STOPPED:
        reason = run.reason or event.reason  # why it was stopped, rather than how it took it
    ended = replace(
        run,
        state=state,
        phase=None,
        restart=None,
        reason=reason,
        exit_code=event.exit_code,
    )
    return ended, [*_END, bill, Command.FORGET_SECRETS]


def _restarted(run: RunLife, restart: Restart) -> Step:
    queued = replace(
        run,
        state=RunState.QUEUED,
        attempt=None,
        phase=None,
        resume=restart.checkpoint,
        restart=None,
        reason=said(f"Queued again: {restart.why}"),
    )
    return queued, _END


def _lost(run: RunLife, event: AttemptEnded) -> Step:
    """What the attempt did after its last good checkpoint is gone, and is nobody's to pay."""
    reason = event.reason or said("The node was lost.")
    if event.checkpoint is not None:
        run = replace(run, resume=event.checkpoint.id)
    if run.stop is not None:
        stopped = replace(run, state=RunState.STOPPED, phase=None, reason=run.reason or reason)
        return stopped, [*_END, _bill_kept(run), Command.FORGET_SECRETS]
    if run.restarts >= run.max_restarts:
        failed = replace(run, state=RunState.FAILED, phase=None, reason=_given_up(run, reason))
        return failed, [*_END, _bill_kept(run), Command.FORGET_SECRETS]
    again = said(
        f"Queued again from checkpoint {event.checkpoint.number:d}: {reason}"
        if event.checkpoint
        else f"Queued again: {reason}"
    )
    queued = replace(
        run,
        state=RunState.QUEUED,
        attempt=None,
        phase=None,
        restarts=run.restarts + 1,
        reason=again,
    )
    return queued, _END


def _bill_kept(run: RunLife) -> Command:
    """What earlier attempts left in a checkpoint is the user's, and is paid for; the rest is not."""
    return Command.BILL_USE if run.has_kept else Command.BILL_NOTHING


def _given_up(run: RunLife, reason: Said) -> Said:
    tries = said(f"{run.attempts:d} attempts") if run.attempts != 1 else said("1 attempt")
    if run.has_kept:
        return said(
            f"Given up after {tries}, charged up to the last checkpoint: {reason} "
            "`tesra resume` goes on from there."
        )
    return said(f"Given up after {tries}, at no charge: {reason}")
