"""The data that a run trains on: snapshots of paths of its owner's drive."""

from typing import Annotated

from pydantic import Field, StringConstraints

from tesra.wire.common import Answer, Wire
from tesra.wire.drive import Hex32

MAX_DATA = 20
DataName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]


class RunData(Wire):
    """Read-only in the run: at ``TESRA_DATA_DIR``, or below it under ``name``.

    ``path`` is like ``xingpan:/datasets/mnist``. A request says it, or the ``snapshot`` that an
    earlier run had; the rest is the server's answer.
    """

    path: str = Field(max_length=8192)
    name: DataName | None = None
    snapshot: str | None = Field(default=None, max_length=64)
    root: str = ""
    file_count: int = 0
    size_bytes: int = 0


class PacksWanted(Wire):
    """An attempt's node would have these from its own storage ``peer``."""

    peer: str = Field(max_length=64)
    packs: list[Hex32] = Field(max_length=2000)


class PacksComing(Answer):
    """Those that the peer has been told to fetch; it has, or can't get, the others."""

    coming: list[str]
