"""The drive's tree: what stands at a path, its history, its trash."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from tesra.wire.common import Answer, Page, Wire
from tesra.wire.drive import Hex32, SnapshotCommit

Path = Annotated[str, Field(max_length=8192)]


class DriveHead(Answer):
    """The tree as it is now; ``version`` grows with each change."""

    drive: str
    version: int
    epoch: str
    root: Hex32


class DriveEntry(Answer):
    """One entry of a folder. ``path`` begins with a slash.

    ``content`` is the same for equal content, whatever its name, within one epoch of a drive.
    """

    path: str
    name: str
    kind: Literal["file", "dir", "link"]
    size_bytes: int
    executable: bool = False
    content: str | None = None


class MakeFolder(Wire):
    op: Literal["mkdir"] = "mkdir"
    path: Path


class Remove(Wire):
    """Into the trash."""

    op: Literal["remove"] = "remove"
    path: Path


class Move(Wire):
    """``path`` becomes ``to``; what stood there goes into the trash if ``replace``."""

    op: Literal["move"] = "move"
    path: Path
    to: Path
    replace: bool = False


class Copy(Wire):
    """No content is moved."""

    op: Literal["copy"] = "copy"
    path: Path
    to: Path
    replace: bool = False


class Restore(Wire):
    """``path`` as it was in ``version``, at ``to`` (where it was, by default)."""

    op: Literal["restore"] = "restore"
    path: Path
    version: int = Field(ge=1)
    to: Path | None = None


class PutTree(Wire):
    """An uploaded tree stands at ``path`` from now on; ``single``: the one file that it holds.

    With ``merge`` a folder that stands there keeps what the tree does not have.
    """

    op: Literal["put"] = "put"
    path: Path
    tree: SnapshotCommit
    single: bool = False
    merge: bool = False


class Expect(Wire):
    """Change nothing at all unless just this ``content`` stands at the path (None: nothing)."""

    op: Literal["expect"] = "expect"
    path: Path
    content: Hex32 | None = None


Change = Annotated[
    PutTree | MakeFolder | Remove | Move | Copy | Restore | Expect, Field(discriminator="op")
]


class Changes(Wire):
    """All of them, or none."""

    changes: list[Change] = Field(min_length=1, max_length=1000)


class TreeCommit(Wire):
    """A whole new tree by a client that began at ``base``; others' changes since are kept too."""

    base: int = Field(ge=1)
    tree: SnapshotCommit
    words: str = Field(default="changed", max_length=200)


class Renamed(Answer):
    """What was to stand at ``path`` stands at ``to``: both sides had changed it and this one came
    later, or it was restored where something else stands."""

    path: str
    to: str


class Committed(Answer):
    head: DriveHead
    renamed: list[Renamed] = []


class DriveVersion(Answer):
    version: int
    root: str
    words: str
    made_at: datetime


class ThrownAway(Answer):
    """In the trash: ``path`` as it was in ``version``."""

    id: str
    path: str
    version: int
    thrown_at: datetime


class SearchHit(Answer):
    """Something whose name was searched for."""

    path: str
    name: str
    kind: Literal["file", "dir", "link"]
    size_bytes: int


class SearchPage(Page[SearchHit]):
    """Hits, sorted by path; ``complete`` is false while changes are still being taken in."""

    complete: bool = True


class DriveUse(Answer):
    """What stands below a path now; ``files`` counts links too."""

    path: str
    files: int
    size_bytes: int


class EntriesAsked(Wire):
    """Which of these paths there are; ``changed`` and ``health`` say more of each, and take longer."""

    paths: list[Path] = Field(min_length=1, max_length=1000)
    changed: bool = False
    health: bool = False


class EntrySeen(DriveEntry):
    """``changed_at``: since when it is what it is, or (not ``changed_exact``) for longer than that.

    Of files ``copies``, ``machines``, ``last_proof`` and ``state`` say how well they are kept.
    """

    changed_at: datetime | None = None
    changed_exact: bool = True
    copies: int | None = None
    machines: int | None = None
    last_proof: datetime | None = None
    state: str | None = None


class EntriesSeen(Answer):
    """Those of the paths at which something stands."""

    entries: list[EntrySeen]


class PathStage(Answer):
    """What stood at a path from ``version`` on; ``entry`` is null where that was nothing."""

    version: int
    made_at: datetime
    words: str
    is_now: bool
    entry: DriveEntry | None
