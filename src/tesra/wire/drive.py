"""Projects, snapshots and the transfer of packs. Ids and keys of chunks and packs are lower-case hex."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from tesra.wire.common import Answer, Name, Wire

Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class UploadGrant(Answer):
    """The right to write under one epoch: its keys, and how many bytes the quota still admits."""

    drive: str
    epoch: str
    id_key: Hex32
    data_key: Hex32
    quota_left_bytes: int


class ChunkQuery(Wire):
    epoch: str
    ids: list[Hex32] = Field(max_length=20_000)


class KnownChunks(Answer):
    """The first 4 bytes of the id of each chunk that is stored, in Base64; None: too many to tell.

    What begins otherwise was not stored when this was asked.
    """

    prefixes: str | None


PREFIX_BYTES = 4


class MissingChunks(Answer):
    missing: list[str]


class PackReceipt(Answer):
    """The pack is on disk and fsynced; ``new_bytes`` is what it added to the quota."""

    pack: str
    new_bytes: int
    quota_left_bytes: int


class SnapshotCommit(Wire):
    """A finished upload: the root tree, all of whose chunks the drive holds by now."""

    epoch: str
    root: Hex32
    file_count: int = Field(ge=0)
    size_bytes: int = Field(ge=0)


class Snapshot(Answer):
    id: str
    root: str
    file_count: int
    size_bytes: int
    created_at: datetime


class ProjectCommit(Wire):
    name: Name
    snapshot: SnapshotCommit


class GitImport(Wire):
    url: str = Field(max_length=2048)
    name: Name | None = None


class Project(Answer):
    id: str
    name: str
    snapshot: str
    snapshots: int
    file_count: int
    size_bytes: int
    created_at: datetime
    updated_at: datetime
    unchanged: bool = False


class ProjectRemoved(Answer):
    """``removed`` of its versions are gone; ``kept`` stay, since runs or other projects need them."""

    project: str
    name: str
    removed: int
    kept: int


class ProjectVersion(Answer):
    """One of the snapshots that a project has had, the first is number 1."""

    number: int
    snapshot: str
    file_count: int
    size_bytes: int
    added_at: datetime


class ImportJob(Answer):
    """A server-side import; ``project`` is set when it is done, ``error`` when it failed."""

    id: str
    state: Literal["waiting", "running", "done", "failed"]
    project: Project | None = None
    error: str | None = None


class ChunkAt(Answer):
    """Where a chunk lies and the key that opens just this one; ``size`` is its plain size."""

    pack: str
    offset: int
    length: int
    size: int
    key: str


class ReadPlan(Answer):
    """Everything needed to read a snapshot, and nothing more: tree and content chunks by id.

    ``id_key`` is for the owner alone: with it, what is there already is told from what is not.
    """

    snapshot: str
    root: str
    id_key: str | None = None
    chunks: dict[str, ChunkAt]


class FileEntry(Answer):
    path: str
    kind: Literal["file", "dir", "link"]
    size_bytes: int


class Quota(Answer):
    used_bytes: int
    quota_bytes: int
