"""Messages between a site controller and the server: see docs/spec/site-protocol.md."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from tesra.kit.saying import Said
from tesra.wire.common import Answer, Wire
from tesra.wire.data import RunData
from tesra.wire.drive import SnapshotCommit
from tesra.wire.parameters import DEFAULT_FORMAT
from tesra.wire.stalls import Stalled
from tesra.wire.tuning import Tuned, TuneOrder

MAX_LOCK_CHARS = 131_072
MAX_RANK = 4096
MAX_PIECES = 512  # in one delivery
MAX_PIECE_BYTES = 2**20
MAX_DELIVERY_BYTES = 2 * MAX_PIECE_BYTES + 2**18  # all pieces, and their list


class EnrolDevice(Wire):
    """``measured_micro_t``: FP32 matrix product, in millionths of a TFLOPS, measured on the node."""

    id: str
    index: int
    device_class: str
    name: str
    measured_micro_t: int = Field(ge=0)


class WarmEngine(Wire):
    """An engine whose environment a node has built; ``size_bytes`` is its own, before sharing."""

    name: str
    version: str
    backend: str | None = None
    size_bytes: int = Field(ge=0)


class NodeEngines(Wire):
    """What is warm on a node now; replaces what it said before."""

    engines: list[WarmEngine] = Field(default=[], max_length=200)


class EnrolNode(NodeEngines):
    id: str
    name: str
    address: str
    cores: int
    memory_bytes: int
    devices: list[EnrolDevice]


class Enrolment(Wire):
    """Sent at each start of a controller; a new ``boot_id`` starts the sequence at 1 again."""

    site: str
    boot_id: str
    nodes: list[EnrolNode]


class Enrolled(Answer):
    site: str
    high_water: int
    lease_s: int


class AssignedDevice(Answer):
    node: str
    device: str
    index: int
    device_class: str
    rating_micro_t: int


class EngineLink(Answer):
    """A link in the environment's packages folder: ``target`` to the file that ``source`` finds.

    ``source`` is a pattern; both are relative to that folder.
    """

    source: str
    target: str


class EngineSpec(Answer):
    """What the node builds: exact requirements on an interpreter, and how the gang is announced.

    ``gpu_requirements`` replace ``requirements`` on a node with GPUs. In the values of ``env``,
    and of ``gang_env`` (for gangs of two and more), the node fills in ``{home}``, ``{packages}``
    and ``{threads}``.
    """

    name: str
    version: str
    backend: str | None = None
    requirements: list[str]
    gpu_requirements: list[str] | None = None
    python: str
    announce: str
    env: dict[str, str] = {}
    gang_env: dict[str, str] = {}
    links: list[EngineLink] = []


class RunSpec(Answer):
    """All that a node needs to know of a run; no credential of the user's is in it.

    ``notes``: what the server has to say, for the run's own log. ``environment_lock``: install
    exactly these packages, whatever the project asks for. ``smoke_s``: end it well after so many
    seconds of running, and store no output.
    """

    owner: str
    project: str
    snapshot: str
    snapshot_root: str = ""
    engine: EngineSpec
    packages: list[str]
    entry: str | list[str]
    args: list[str]
    output: str
    launch: Literal["gang", "single"]
    params: dict[str, str | int | float | bool]
    param_format: str = DEFAULT_FORMAT
    env: dict[str, str]
    secrets: dict[str, str]
    notes: list[str] = []
    environment_lock: str | None = None
    smoke_s: float | None = None
    checkpoint_every_s: float = 300.0
    data: list[RunData] = []


class RunLimit(Answer):
    """The node asks the gang to end when it has run so long, and ends it ``grace_s`` later.

    It counts by itself, so that a server that is away lets no run pass its user's cap.
    """

    stop_after_ms: int
    grace_s: float


class ResumeFrom(Answer):
    """The stored checkpoint that an attempt goes on from; see docs/CHECKPOINTS.md for its folders.

    ``newest`` is the path, within the snapshot, of the file or folder to go on from.
    """

    checkpoint: str
    number: int
    snapshot: str
    newest: str | None = None


class Assignment(Answer):
    """One attempt that the server wants to live on this site, or to stop (``stop`` is why).

    ``tuning``: the changes of parameters that it waits for, oldest first.
    ``restart``: its run is to begin again elsewhere, from another checkpoint.
    """

    run: str
    attempt: str
    number: int
    fence: int
    devices: list[AssignedDevice]
    spec: RunSpec
    stop: Literal["user", "cap", "operator", "pruned", "restart"] | None = None
    grace_s: float = 15.0
    tuning: list[TuneOrder] = []
    limit: RunLimit | None = None
    resume: ResumeFrom | None = None


class Assignments(Answer):
    """The whole truth for this site at ``version``: what is not listed must not run here."""

    version: int
    assignments: list[Assignment]


class AttemptRef(Wire):
    attempt: str
    fence: int


class Renewal(Wire):
    boot_id: str
    attempts: list[AttemptRef]


class Renewed(Answer):
    renewed: list[str]
    gone: list[str]


class Preparing(Wire):
    kind: Literal["preparing"] = "preparing"
    phase: Said


class Started(Wire):
    """All ranks of the gang run; ``environment_lock``: the packages they run with, line by line."""

    kind: Literal["started"] = "started"
    at: datetime
    environment_lock: str | None = Field(default=None, max_length=MAX_LOCK_CHARS)


class Usage(Wire):
    """All ranks ran from ``started_at`` for ``duration_ms`` (monotonic, on the node)."""

    kind: Literal["usage"] = "usage"
    number: int = Field(ge=1)
    started_at: datetime
    duration_ms: int = Field(ge=0, le=600_000)


class Phase(Wire):
    kind: Literal["phase"] = "phase"
    phase: Said


class Checkpoint(Wire):
    """The ``number``-th checkpoint of this attempt is in the drive.

    ``ran_ms``: how much of the attempt's usage it stands for: until its newest file was finished,
    on the count that ``Usage`` reports. ``resumed``: the script has read what it was to go on from.
    """

    kind: Literal["checkpoint"] = "checkpoint"
    number: int = Field(ge=1)
    snapshot: SnapshotCommit
    ran_ms: int = Field(ge=0)
    finished_at: datetime
    files: int = Field(ge=1)
    size_bytes: int = Field(ge=0)
    newest: str | None = Field(default=None, max_length=8192)
    step: int | None = Field(default=None, ge=0, le=2**62)
    resumed: bool = False


class Ended(Wire):
    """The gang is gone, its log has been delivered, its output stored.

    ``outcome``: ``succeeded`` and ``failed`` are the script's doing; ``stopped`` answers a stop;
    ``refused`` means that the run cannot be prepared here or anywhere (say, requirements that
    can't be resolved); ``lost`` means that the platform failed it: it is queued again.
    """

    kind: Literal["ended"] = "ended"
    outcome: Literal["succeeded", "failed", "stopped", "refused", "lost"]
    exit_code: int | None = None
    rank: int | None = None
    reason: Said | None = Field(default=None, max_length=8192)
    warnings: list[str] = []
    output: SnapshotCommit | None = None
    resumed: bool = False


class Message(Wire):
    """Fact number ``seq`` of this boot about one attempt."""

    seq: int = Field(ge=1)
    attempt: str
    fence: int
    body: Annotated[
        Preparing | Started | Usage | Phase | Tuned | Stalled | Checkpoint | Ended,
        Field(discriminator="kind"),
    ]


class Messages(Wire):
    boot_id: str
    messages: list[Message] = Field(max_length=1000)


class Acknowledged(Answer):
    """Everything up to ``seq`` is applied. ``stale``: attempts whose fence is gone; kill their gangs."""

    seq: int
    stale: list[str]


class Piece(Wire):
    """Bytes of a rank's log, or of a node's metrics, from byte ``offset`` on.

    ``of``: the rank, or the node's rank in the gang.
    """

    attempt: str
    fence: int = Field(ge=0, le=2**62)
    kind: Literal["log", "metrics"]
    of: int = Field(ge=-1, lt=MAX_RANK)
    offset: int = Field(ge=0, le=2**62)
    size: int = Field(ge=0, le=MAX_PIECE_BYTES)


class Delivery(Wire):
    """The first line of a delivery; the bytes of its pieces follow, in this order."""

    pieces: list[Piece] = Field(max_length=MAX_PIECES)


class PieceTaken(Answer):
    """The server holds it up to ``offset`` (bytes); or why it takes no more of it (a problem's code)."""

    offset: int | None = None
    refused: str | None = None


class DeliveryTaken(Answer):
    """What has become of each piece of a delivery."""

    pieces: list[PieceTaken]
