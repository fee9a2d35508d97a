"""Sweeps: many runs of one project over a space of parameters, under one bill."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from tesra.wire.common import Answer, Wire
from tesra.wire.parameters import ParameterName
from tesra.wire.training import RunRequest, RunState, Text, VariableName

Algorithm = Literal["tpe", "random", "grid", "asha"]
Mode = Literal["min", "max"]
Objective = Literal["best", "last"]
SweepState = Literal["running", "stopping", "finished", "stopped", "failed"]
TrialState = Literal["running", "completed", "pruned", "failed", "stopped"]


class SweepRequest(Wire):
    """``run`` is what all trials share; ``space`` is what differs, as text: ``loguniform(1e-5,1e-1)``.

    ``mode`` may be left out when the metric's name says it (a loss is minimised, an accuracy
    maximised). ``objective``: the best value that a trial reported, or its last one.
    """

    run: RunRequest
    space: dict[ParameterName, Annotated[str, Field(max_length=4096)]] = Field(max_length=64)
    metric: str = Field(min_length=1, max_length=256)
    mode: Mode | None = None
    objective: Objective = "best"
    trials: int = Field(default=20, ge=-(2**31), lt=2**31)
    parallel: int = Field(default=4, ge=-(2**31), lt=2**31)
    algorithm: Algorithm = "tpe"
    seed: int | None = Field(default=None, ge=0, lt=2**31)
    max_cost_cny: str | None = Field(default=None, max_length=32)


class SweepMore(Wire):
    """So many more trials; secrets again, since they are forgotten when a sweep ends."""

    trials: int = Field(ge=-(2**31), lt=2**31)
    max_cost_cny: str | None = Field(default=None, max_length=32)
    secrets: dict[VariableName, Text] = {}


class Trial(Answer):
    """One point of the space and what became of it; ``rank`` 1 is the best of the completed ones.

    ``cost_cny`` is exact: its share of the sweep's bill, which is rounded as a whole.
    """

    number: int
    run: str
    rank: int | None
    state: TrialState
    run_state: RunState
    params: dict[str, Any]
    value: float | None
    step: int | None
    reason: str | None
    th: str
    cost_cny: str
    output: str | None
    started_at: datetime | None
    ended_at: datetime | None


class Sweep(Answer):
    """``counts``: trials by state; ``amount_cny``: of its bills, or so far; ``best``: the best trial."""

    id: str
    project: str
    project_name: str
    snapshot: str
    state: SweepState
    reason: str | None
    notes: list[str]
    space: dict[str, str]
    params: dict[str, Any]
    metric: str
    mode: Mode
    objective: Objective
    algorithm: Algorithm
    trials: int
    parallel: int
    seed: int
    max_cost_cny: str | None
    counts: dict[str, int]
    best: Trial | None
    bill: str | None
    bills: list[str]
    amount_cny: str
    th: str
    created_at: datetime
    ended_at: datetime | None
