"""Runs: what a user asks for, what the record shows, and the log stream."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from tesra.kit.saying import Said
from tesra.wire.common import Answer, Wire
from tesra.wire.data import MAX_DATA, RunData
from tesra.wire.metric_names import Value
from tesra.wire.parameters import (
    DEFAULT_FORMAT,
    ParameterFormat,
    ParameterName,
    ParameterRange,
)
from tesra.wire.site import MAX_LOCK_CHARS

RunState = Literal["queued", "placing", "preparing", "running", "succeeded", "failed", "stopped"]
Launch = Literal["gang", "single"]
CHECKPOINT_EVERY_S = 300.0
MAX_RESTARTS = 3
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
Text = Annotated[str, Field(max_length=32_768)]


PriorityName = Literal["low", "normal", "high"]
PRIORITIES: dict[str, int] = {"low": -50, "normal": 0, "high": 50}


def priority_number(priority: int | str) -> int:
    """-100 to 100; the names stand for -50, 0 and 50."""
    return PRIORITIES[priority] if isinstance(priority, str) else priority


Priority = Annotated[
    Annotated[int, Field(ge=-100, le=100)] | PriorityName, AfterValidator(priority_number)
]


class PriorityRequest(Wire):
    """Which of a user's own runs go first: the highest."""

    priority: Priority


class RunRequest(Wire):
    """A run of one immutable snapshot. ``project`` is a name or an id; ``snapshot`` defaults to its head.

    What is left out of ``engine``, ``entry``, ``output`` and ``launch`` is filled from the code, as the
    import doctor reads it; ``backend`` is for engines that have several (Keras).

    ``entry`` is a file, ``package.module``, ``module:function``, ``module:Class.method``, or a
    list of arguments (a program with its arguments). ``environment_lock``: exactly these packages,
    a line each, as a record has them; ``rerun_of``: the run that this one repeats.
    ``smoke``: its first seconds alone, on one CPU slot, free of charge and without an output.
    ``param_format`` is how each parameter stands on the command line, ``none`` (variables and file
    only), or ``file`` (``--config FILE``, JSON).
    ``ranges``: what parameters may be changed to while the run goes on.

    At ``max_cost_cny`` (yuan, two decimals) or ``max_time_s`` (billed running time) the job is asked
    to checkpoint and stopped; the bill is never above the former.
    ``data``: paths of the drive, as they are when the run is submitted; several need names.
    ``max_restarts``: how often it is queued again, from its last checkpoint, when its node is lost.
    """

    project: str = Field(max_length=128)
    snapshot: str | None = None
    engine: str | None = Field(default=None, max_length=64)
    backend: str | None = Field(default=None, max_length=64)
    entry: Text | list[Text] | None = None
    args: list[Text] = Field(default=[], max_length=1000)
    output: str | None = Field(default=None, max_length=1024)
    devices: int = 1
    device_class: str | None = Field(default=None, max_length=128)
    launch: Launch | None = None
    params: dict[ParameterName, str | int | float | bool] = {}
    param_format: ParameterFormat = DEFAULT_FORMAT
    env: dict[VariableName, Text] = {}
    secrets: dict[VariableName, Text] = {}
    packages: list[Annotated[str, Field(min_length=1, max_length=256)]] = Field(
        default=[], max_length=100
    )
    priority: Priority = 0
    ranges: dict[ParameterName, ParameterRange] = {}
    environment_lock: str | None = Field(default=None, max_length=MAX_LOCK_CHARS)
    rerun_of: str | None = Field(default=None, max_length=64)
    max_cost_cny: str | None = Field(default=None, max_length=32)
    max_time_s: int | None = Field(default=None, ge=1, le=366 * 86_400)
    smoke: bool = False
    checkpoint_every_s: float = Field(default=CHECKPOINT_EVERY_S, ge=1, le=86_400)
    max_restarts: int = Field(default=MAX_RESTARTS, ge=0, le=100)
    data: list[RunData] = Field(default=[], max_length=MAX_DATA)


Tag = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^,\x00-\x1f]{1,40}$")]


class RunLabels(Wire):
    """What its user writes on a run; what is left out stays. Tags are a whole new list."""

    tags: list[Tag] | None = Field(default=None, max_length=20)
    note: str | None = Field(default=None, max_length=4000)


class QueuePlace(Answer):
    """Where a queued run stands among all (``place`` 1 is next) and why it waits, in words.

    ``place`` is null for a run that waits for money: it is not in the order until that is settled.
    ``start_by``: when it starts at the latest, if that can be known: it is next, and the runs that
    hold the devices have to end by then.
    """

    place: int | None
    of: int
    waits_for: Literal["devices", "share", "payment", "limit"]
    why: Said
    start_by: datetime | None = None


class WholeRequest(RunRequest):
    """A request with nothing left out: what the server runs."""

    engine: str = Field(max_length=64)
    entry: Text | list[Text]
    output: str = Field(max_length=1024)
    launch: Launch


class ResumedFrom(Answer):
    """The checkpoint of another run that a run began with."""

    run: str
    checkpoint: int


class RunForecast(Answer):
    """Yuan as decimals. What can't be known is null: never a guess.

    ``from``: the count and the pace that it is drawn from. ``ends_at_cap``: the run would reach a cap
    before it is done.
    """

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    cost_so_far: str
    cost_to_finish: str | None = None
    finish_at: datetime | None = None
    based_on: str | None = Field(default=None, alias="from")
    ends_at_cap: bool = False


class Run(Answer):
    """The training record. ``reason`` says in words why it waits or ended; ``output`` is a snapshot id.

    ``environment_lock``: the packages it ran with, as requirement lines; not in lists of runs.
    ``launch_reason``: the line of the code that decided, where the request did not.
    ``sweep``, ``trial``: of a trial, whose ``amount_cny`` is its exact share of the sweep's bill.
    ``metrics``: the newest values of the most telling metrics; not in lists of runs.
    """

    id: str
    project: str
    project_name: str
    snapshot: str
    state: RunState
    phase: str | None
    reason: str | None
    warnings: list[str]
    engine: str
    backend: str | None = None
    entry: str | list[str]
    args: list[str]
    output_path: str
    devices: int
    device_class: str | None
    launch: Launch
    params: dict[str, Any]
    param_format: str = DEFAULT_FORMAT
    env: dict[str, str]
    secrets: list[str]
    packages: list[str]
    attempt: int
    exit_code: int | None
    output: str | None
    output_size_bytes: int | None
    bill: str | None
    amount_cny: str | None
    th: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    environment_lock: str | None = None
    launch_reason: str | None = None
    priority: int = 0
    queue: QueuePlace | None = None
    sweep: str | None = None
    trial: int | None = None
    metrics: dict[str, Value] = {}
    rerun_of: str | None = None
    max_cost_cny: str | None = None
    max_time_s: int | None = None
    smoke: bool = False
    checkpoint_every_s: float = CHECKPOINT_EVERY_S
    max_restarts: int = MAX_RESTARTS
    restarts: int = 0
    resumed_from: ResumedFrom | None = None
    forecast: RunForecast | None = None
    data: list[RunData] = []
    tags: list[str] = []
    note: str = ""


class RunEvent(Answer):
    """One step of a run's timeline."""

    seq: int
    at: datetime
    kind: str
    text: str


class LogChunk(Answer):
    """One line of the NDJSON log stream: whole lines of one rank, in order.

    ``rank`` -1 is Tesra's own voice (preparing, building, warnings). ``cursor`` goes into
    ``?after=`` to resume behind this chunk. Exactly one of ``text``, ``state`` is set: a chunk
    with ``state`` says that the run has changed its state; the stream ends after a terminal one.
    ``dropped_bytes`` above 0 says that a slow viewer lost so much before this chunk.
    """

    cursor: str
    attempt: int
    rank: int
    text: str | None = None
    state: RunState | None = None
    phase: str | None = None
    reason: str | None = None
    dropped_bytes: int = 0


class WarmOn(Answer):
    """A node that has built the environment of an engine: runs start there at once."""

    node: str
    version: str
    backend: str | None = None
    size_bytes: int


class Engine(Answer):
    """``backends`` of the default version, its default first; empty for an engine without."""

    name: str
    title: str = ""
    versions: list[str]
    default: str
    backends: list[str] = []
    warm: list[WarmOn] = []
