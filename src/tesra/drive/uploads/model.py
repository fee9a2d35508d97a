"""Uploads that may take days of pauses: what one is, what its metadata says, when it is refused.

Pure. An upload's offset is what lies on disk for good of it; it never goes back.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from tesra.drive.model import check_project_name
from tesra.kit.errors import Conflict, Gone, Invalid, NotFound, QuotaExceeded, TooMany, Unavailable
from tesra.kit.ids import UserId
from tesra.storage.editing import Parts, parse_path

KEPT = timedelta(hours=24)  # after the last byte; then a partial upload is cleared away
MAX_OPEN = 200  # uploads of one user that are not landed
MAX_METADATA_CHARACTERS = 16_384
CHECKSUMS: dict[str, Callable[[], Any]] = {
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "md5": lambda: hashlib.md5(usedforsecurity=False),
}

_SHA256_CHARACTERS = 64


class UploadUnknown(NotFound):
    """There is no such upload, or not any more."""


class UploadEnded(Gone):
    """This upload has ended: its bytes are not kept any more."""


class MetadataInvalid(Invalid):
    """The metadata of the upload can't be read."""


class LengthInvalid(Invalid):
    """An upload has to say how many bytes it has."""


class LengthExceeded(QuotaExceeded):
    """These are more bytes than the upload was said to have."""


class OffsetWrong(Conflict):
    """The upload does not stand at this offset."""


class UploadBusy(Conflict):
    """Another request is writing to this upload right now."""


class UploadIncomplete(Conflict):
    """Not all bytes of this upload have come yet."""


class UploadRefused(Conflict):
    """The drive did not take this upload."""


class UploadStalled(Unavailable):
    """No byte has come for too long; what came is kept."""


class ChecksumInvalid(Invalid):
    """The checksum can't be read, or is of a kind that is not known here."""


class ChecksumMismatch(Invalid):
    """What came does not have the checksum that was sent along; it is not kept."""


class ContentUntrue(Invalid):
    """The upload is not what its SHA-256 says."""


class TooManyUploads(TooMany):
    """You have too many unfinished uploads."""


class UploadState(StrEnum):
    RECEIVING = "receiving"
    LANDING = "landing"  # all bytes are on disk; it is on its way into the drive
    LANDED = "landed"
    REFUSED = "refused"  # the drive did not take it; its bytes are kept for another try


class Become(StrEnum):
    """What an upload becomes."""

    FILE = "file"
    FOLDER = "folder"  # a zip or tar, unpacked into a folder of the drive
    PROJECT = "project"  # a zip or tar, unpacked as a project's newest snapshot


@dataclass(frozen=True, slots=True)
class Wish:
    """What the metadata asks for. ``path``: the file, or the folder to unpack into."""

    become: Become
    path: Parts
    project: str | None
    filename: str
    filetype: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the drive did not take an upload."""

    code: str
    detail: str
    way_out: str | None


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """One upload; its bytes are in the spool."""

    id: str
    owner: UserId
    state: UploadState
    wish: Wish
    metadata: str
    length: int
    created_at: datetime
    expires_at: datetime
    version: int | None
    project_id: str | None
    refusal: Refusal | None


def parse_metadata(header: str) -> dict[str, str]:
    """``key base64,key base64`` as tus has it; a key without a value has an empty one."""
    if len(header) > MAX_METADATA_CHARACTERS:
        raise MetadataInvalid(f"Metadata has at most {MAX_METADATA_CHARACTERS} characters.")
    found: dict[str, str] = {}
    for pair in header.split(",") if header.strip() else ():
        key, _, value = pair.strip().partition(" ")
        if not key or key in found:
            raise MetadataInvalid("A key of the metadata is empty or comes twice.")
        try:
            found[key] = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise MetadataInvalid(
                f"The value of '{key[:40]}' is not base64 of UTF-8.",
                way_out="Send 'Upload-Metadata: key base64(value),key base64(value)'.",
            ) from error
        if "\0" in found[key]:
            raise MetadataInvalid(f"The value of '{key[:40]}' holds the character NUL.")
    return found


def read_wish(metadata: dict[str, str]) -> Wish:
    """What is to become of the upload; raises ``MetadataInvalid``, ``PathInvalid``, ``NameRefused``.

    ``path`` ends with a slash (or is missing): a folder, in which ``relativePath`` or ``filename``
    names the file.
    """
    try:
        become = Become(metadata.get("as", Become.FILE))
    except ValueError as error:
        raise MetadataInvalid("'as' is one of file, folder, project.") from error
    sha256 = metadata.get("sha256", "").lower() or None
    if sha256 and (len(sha256) != _SHA256_CHARACTERS or set(sha256) - set("0123456789abcdef")):
        raise MetadataInvalid("'sha256' is 64 hexadecimal digits.")
    filename = metadata.get("filename") or metadata.get("name") or ""
    project = None
    if become is Become.PROJECT:
        project = check_project_name(metadata.get("project") or _stem(filename))
    return Wish(
        become=become,
        path=_place(metadata, become, filename),
        project=project,
        filename=filename[:255],
        filetype=(metadata.get("filetype") or metadata.get("type") or "")[:255],
        sha256=sha256,
    )


def parse_checksum(header: str) -> tuple[str, bytes]:
    """The algorithm and the digest of ``sha256 base64``; raises ``ChecksumInvalid``."""
    kind, _, value = header.strip().partition(" ")
    if kind not in CHECKSUMS:
        raise ChecksumInvalid(f"Use one of these: {', '.join(CHECKSUMS)}.")
    try:
        digest = base64.b64decode(value.strip(), validate=True)
    except binascii.Error as error:
        raise ChecksumInvalid("A checksum is 'algorithm base64(digest)'.") from error
    if len(digest) != CHECKSUMS[kind]().digest_size:
        raise ChecksumInvalid(f"This is not as long as a {kind} is.")
    return kind, digest


def parse_count(text: str | None) -> int | None:
    """A header's whole number; None for anything else."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 18:
        return None
    return int(text)


def _place(metadata: dict[str, str], become: Become, filename: str) -> Parts:
    path = metadata.get("path", "/")
    if become is not Become.FILE:
        return parse_path(path)
    if not path.endswith("/"):
        return parse_path(path)
    name = metadata.get("relativePath") or filename
    parts = parse_path(f"{path}{name}")
    if not parse_path(name):
        raise MetadataInvalid(
            "The file has no name.", way_out="Give 'filename', or a 'path' that names the file."
        )
    return parts


def _stem(filename: str) -> str:
    name = filename.rsplit("/", 1)[-1]
    for ending in (".zip", ".tar", ".tgz", ".tar.gz", ".tar.xz", ".tar.bz2", ".tar.zst"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name
