"""Parameters that are changed while a run goes on: what users ask, what they see, what sites are told."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from tesra.kit.saying import Said
from tesra.wire.common import Answer, Wire
from tesra.wire.parameters import ParameterName, ParameterValue

ChangeState = Literal["waiting", "applied", "withdrawn", "rolled_back", "failed"]
Origin = Literal["run", "script", "optimiser"]
Kind = Literal["int", "float", "bool", "str"]

MAX_VALUES = 64
MAX_RANKS = 4096
MAX_STEP = 2**62


class TuneRequest(Wire):
    """New values by the parameters' names; all of them take effect together."""

    values: dict[ParameterName, ParameterValue] = Field(min_length=1, max_length=MAX_VALUES)


class RollbackRequest(Wire):
    """Back to the checkpoint before change number ``change``; by default the last one applied."""

    change: int | None = Field(default=None, ge=1, le=2**31 - 1)


class RankTook(Wire):
    """A rank made the change just before it did step number ``step``; 0 means from its start."""

    rank: int = Field(ge=0, le=MAX_RANKS)
    step: int = Field(ge=0, le=MAX_STEP)
    note: str | None = Field(default=None, max_length=512)


class TuneChange(Answer):
    """One entry of the timeline. ``before``: the values that it replaced. ``at``: when it was asked for.

    ``step``: the step that all ranks agreed on. ``reason``: why it waits, has failed, or what is
    worth knowing of how it was applied.
    """

    seq: int
    at: datetime
    by: str
    values: dict[str, ParameterValue]
    before: dict[str, ParameterValue]
    state: ChangeState
    attempt: int
    step: int | None = None
    ranks: list[RankTook] = []
    reason: Said | None = None
    settled_at: datetime | None = None


class TunableParameter(Answer):
    """``value`` holds now, ``start`` was at the run's start.

    ``origin``: declared for the run, by the script, or an optimiser's own. ``where``: what on the
    ranks takes a change (``tesra.params``, ``SGD``), empty while nothing is known to.
    """

    name: str
    kind: Kind
    value: ParameterValue
    start: ParameterValue
    low: float | None = None
    high: float | None = None
    choices: list[ParameterValue] | None = None
    origin: Origin = "run"
    where: list[str] = []


class Tuning(Answer):
    """What can be changed of a run, and what has been. ``stepping``: the ranks that count steps."""

    run: str
    parameters: list[TunableParameter]
    changes: list[TuneChange]
    stepping: list[int] = []
    ranks: int


class TuneOrder(Answer):
    """A change that a site should bring about in an attempt; ``step`` when the site has named it."""

    seq: int
    values: dict[str, ParameterValue]
    step: int | None = None


class TunedChange(Wire):
    """How far a change is on the site."""

    seq: int = Field(ge=1, le=2**31 - 1)
    state: Literal["decided", "applied", "failed"]
    step: int | None = Field(default=None, ge=0, le=MAX_STEP)
    ranks: list[RankTook] = Field(default=[], max_length=MAX_RANKS)
    reason: Said | None = Field(default=None, max_length=1024)


class FoundParameter(Wire):
    """A parameter that the ranks themselves named, and what takes a change of it there."""

    name: ParameterName
    value: ParameterValue | None = None
    low: float | None = None
    high: float | None = None
    choices: list[ParameterValue] | None = Field(default=None, max_length=200)
    origin: Origin
    where: list[str] = Field(default=[], max_length=20)


class Tuned(Wire):
    """All that the site knows of an attempt's tuning; replaces what it said before.

    ``readers``: what on the ranks takes a change of any parameter, such as ``tesra.params``.
    """

    kind: Literal["tuned"] = "tuned"
    changes: list[TunedChange] = Field(default=[], max_length=1000)
    found: list[FoundParameter] = Field(default=[], max_length=200)
    readers: list[str] = Field(default=[], max_length=20)
    stepping: list[int] = Field(default=[], max_length=MAX_RANKS)
