"""Drives, epochs, snapshots, projects: what they are and what their owners are told."""

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from tesra.kit.errors import Conflict, Forbidden, Invalid, NotFound, QuotaExceeded, Unavailable
from tesra.kit.ids import DriveId, EpochId, ProjectId, SnapshotId, UserId

MAIN_PURPOSE = "main"
PRIVATE_PURPOSE = "private:"  # begins the purpose of an epoch whose keys the server has not
_PRIVATE_PATH = re.compile(r"[^/:]+:(/|$)")
PROJECT_ID_PREFIX = "prj_"
MAX_PROJECT_NAME = 128
GO_BY_CLIENT = (
    "Only your own devices can open it: `tesra drive get`, and `tesra drive put` into your"
    " default drive what the network is to work with."
)


class EpochUnknown(NotFound):
    """There is no such epoch in this drive."""


class EpochNotWritable(Forbidden):
    """This epoch is not yours to write to."""


class KeyNotHere(Forbidden):
    """This belongs to a private drive: the server has no key for it."""


class SnapshotUnknown(NotFound):
    """There is no such snapshot in this drive."""


class SnapshotIncomplete(Invalid):
    """The snapshot refers to chunks that the drive does not hold."""


class SnapshotUntrue(Invalid):
    """The snapshot is not what its tree says."""


class PackUnknown(NotFound):
    """There is no such pack in this drive."""


class PackOfAnotherKey(Invalid):
    """This pack was made with another key than its drive's."""


class ContentUnreadable(Conflict):
    """Some of this content was sealed with another key than its drive's: it can't be read."""


class PackRefused(Invalid):
    """The pack's bytes do not have the hash that names it."""


class PackTooLarge(PackRefused):
    """The pack is larger than a pack may be."""


Hold = Literal["to use", "to change", "to remove"]  # a project that is used is not removed


class ProjectUnknown(NotFound):
    """There is no such project."""


class ProjectNameInvalid(Invalid):
    """This can't be the name of a project."""


class FileUnknown(NotFound):
    """There is no such file in the snapshot."""


class ImportUnknown(NotFound):
    """There is no such import."""


class DriveFull(QuotaExceeded):
    """The drive's quota is used up."""


class DiskFull(Unavailable):
    """The server's disk is full."""


@dataclass(frozen=True, slots=True)
class Drive:
    """One user's storage; ``used_bytes`` is what its packs take on disk, each counted once;
    ``copies``: how many there shall be of each."""

    id: DriveId
    owner: UserId
    used_bytes: int
    copies: int


@dataclass(frozen=True, slots=True)
class Epoch:
    """A set of keys, wrapped; the main one is the owner's, each run's output has its own."""

    id: EpochId
    drive_id: DriveId
    purpose: str
    wrapped_keys: bytes


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """Where a chunk lies."""

    chunk_id: bytes
    pack_id: str
    offset: int
    length: int
    plain_size: int


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """An immutable tree under one epoch."""

    id: SnapshotId
    drive_id: DriveId
    epoch_id: EpochId
    root: bytes
    file_count: int
    size_bytes: int
    kind: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredProject:
    """A name for a line of snapshots; ``head`` is the newest."""

    id: ProjectId
    owner: UserId
    name: str
    head: StoredSnapshot
    snapshots: int
    created_at: datetime
    updated_at: datetime


def check_project_name(name: str) -> str:
    """The name in one Unicode form; it must be printable, fit in a URL, and be no id."""
    plain = unicodedata.normalize("NFC", name.strip())
    if not 1 <= len(plain) <= MAX_PROJECT_NAME:
        raise ProjectNameInvalid(f"A project's name has 1 to {MAX_PROJECT_NAME} characters.")
    if not plain.isprintable() or any(c in plain for c in "/\\?#%") or plain in {".", ".."}:
        raise ProjectNameInvalid(
            f"{plain!r} can't be the name of a project.",
            way_out="Use letters, digits, blanks and -_.+@ only.",
        )
    if plain.startswith(PROJECT_ID_PREFIX):
        raise ProjectNameInvalid(f"A name can't begin with '{PROJECT_ID_PREFIX}', as ids do.")
    return plain


def refuse_private_path(path: str) -> None:
    """Raises ``KeyNotHere`` for ``NAME:/PATH``: paths of the default drive begin with a slash."""
    if _PRIVATE_PATH.match(path):
        raise KeyNotHere(way_out=GO_BY_CLIENT)


def check_room(used_bytes: int, quota_bytes: int, needed_bytes: int) -> None:
    """Raises ``DriveFull`` when so much more does not fit."""
    if used_bytes + needed_bytes > quota_bytes:
        raise DriveFull(
            f"The drive is full: {_mib(used_bytes)} of {_mib(quota_bytes)} are used, and this "
            f"needs {_mib(needed_bytes)} more.",
            way_out="Empty the trash and give up old versions (drive gc), or ask the operator for a "
            "larger quota.",
            used_bytes=used_bytes,
            quota_bytes=quota_bytes,
            needed_bytes=needed_bytes,
        )


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:,.1f} MiB"
