"""Runs, attempts and what can happen to them. Pure.

A run is what the user asked for and its record; an attempt is one try at it on one site, under
one fence. The server alone changes a run's state.
"""

from dataclasses import dataclass
from enum import StrEnum

from tesra.kit.ids import AttemptId, CheckpointId
from tesra.kit.saying import Said


class RunState(StrEnum):
    """Where a run is in its life; the last three are terminal."""

    QUEUED = "queued"
    PLACING = "placing"
    PREPARING = "preparing"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def terminal(self) -> bool:
        return self in TERMINAL

    @property
    def live(self) -> bool:
        """An attempt holds devices for it."""
        return self in LIVE


TERMINAL = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.STOPPED})
LIVE = frozenset({RunState.PLACING, RunState.PREPARING, RunState.RUNNING})


class StopCause(StrEnum):
    """Who asked for the end."""

    USER = "user"
    CAP = "cap"
    OPERATOR = "operator"
    PRUNED = "pruned"  # a sweep's trial that is not promising


class Outcome(StrEnum):
    """How an attempt ended, as its site reports it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    REFUSED = "refused"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class CheckpointRef:
    """A stored checkpoint by its id, and by its number within its run."""

    id: CheckpointId
    number: int


@dataclass(frozen=True, slots=True)
class Restart:
    """The run is to begin again from a checkpoint (None: from scratch), at its user's wish."""

    checkpoint: CheckpointId | None
    why: Said


@dataclass(frozen=True, slots=True)
class RunLife:
    """The part of a run that decides what may happen next.

    ``restarts`` counts the attempts that the platform lost; those begun anew at the user's wish do
    not count. ``resume`` is what the present attempt went on from, or the next one will;
    ``origin`` what the run itself began with: another run's checkpoint, on nobody's bill here.
    """

    state: RunState
    attempt: AttemptId | None = None
    attempts: int = 0
    max_restarts: int = 3
    stop: StopCause | None = None
    phase: Said | None = None
    reason: Said | None = None
    exit_code: int | None = None
    restarts: int = 0
    resume: CheckpointId | None = None
    origin: CheckpointId | None = None
    restart: Restart | None = None

    @property
    def has_kept(self) -> bool:
        """Some work of earlier attempts is kept in a checkpoint of this run's own."""
        return self.resume is not None and self.resume != self.origin


@dataclass(frozen=True, slots=True)
class Placed:
    """The dispatcher reserved a gang's devices for this attempt."""

    attempt: AttemptId


@dataclass(frozen=True, slots=True)
class PreparingSeen:
    """The site fetches the project or builds the environment."""

    attempt: AttemptId
    phase: Said


@dataclass(frozen=True, slots=True)
class PhaseSeen:
    """What the site does now, in words, without a change of state."""

    attempt: AttemptId
    phase: Said


@dataclass(frozen=True, slots=True)
class StallSeen:
    """The gang stands still, in words; ``None``: it goes on again."""

    attempt: AttemptId
    phase: Said | None


@dataclass(frozen=True, slots=True)
class RanksStarted:
    """All ranks of the gang run."""

    attempt: AttemptId


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Somebody wants the run to end; ``words`` say why, if there is more to say than who."""

    cause: StopCause
    words: Said | None = None


@dataclass(frozen=True, slots=True)
class RestartRequested:
    """The run's user wants it to begin again from that checkpoint; None: from scratch."""

    checkpoint: CheckpointId | None
    why: Said


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """The gang is gone; ``LOST`` also stands for a lease that ran out.

    ``checkpoint`` is the last good one that this attempt stored.
    """

    attempt: AttemptId
    outcome: Outcome
    exit_code: int | None = None
    reason: Said | None = None
    checkpoint: CheckpointRef | None = None


RunEvent = (
    Placed
    | PreparingSeen
    | PhaseSeen
    | StallSeen
    | RanksStarted
    | StopRequested
    | RestartRequested
    | AttemptEnded
)


class Command(StrEnum):
    """What the service has to do, in the same transaction, after an event."""

    RELEASE_DEVICES = "release_devices"
    TELL_SITE = "tell_site"
    WAKE_DISPATCHER = "wake_dispatcher"
    MARK_STARTED = "mark_started"
    END_ATTEMPT = "end_attempt"
    BILL_USE = "bill_use"
    BILL_NOTHING = "bill_nothing"
    FORGET_SECRETS = "forget_secrets"


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs a list has; what is empty does not matter."""

    states: tuple[str, ...] = ()
    project: str | None = None
    sweep: str | None = None
    trials: bool = True
    tag: str | None = None
    text: str | None = None
