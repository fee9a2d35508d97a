"""Checkpoints of runs, and runs that go on from one."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from tesra.wire.common import Answer, Wire
from tesra.wire.parameters import ParameterName
from tesra.wire.training import Text, VariableName


class Checkpoint(Answer):
    """A stored checkpoint. ``newest`` is the file or folder in its snapshot to go on from.

    ``state``: ``kept`` is one of the newest, or one that something refers to; ``superseded`` has
    newer ones in its place and may be deleted some day. ``ran_ms``: how long its attempt had run.
    """

    id: str
    number: int
    attempt: int
    state: Literal["kept", "superseded"]
    step: int | None
    finished_at: datetime
    stored_at: datetime
    ran_ms: int
    files: int
    size_bytes: int
    snapshot: str
    newest: str | None


class ResumeRequest(Wire):
    """Go on from a checkpoint (by default the last one) of a run that has ended.

    What is given here replaces what that run had; its caps do not come along. Its secrets are
    forgotten, so give them again.
    """

    checkpoint: int | None = Field(default=None, ge=1)
    devices: int | None = None
    params: dict[ParameterName, str | int | float | bool] = {}
    secrets: dict[VariableName, Text] = {}
    max_restarts: int | None = Field(default=None, ge=0, le=100)
    max_cost_cny: str | None = Field(default=None, max_length=32)
    max_time_s: int | None = Field(default=None, ge=1, le=366 * 86_400)
