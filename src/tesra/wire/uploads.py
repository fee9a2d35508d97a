"""Uploads in parts (tus), and what becomes of them."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from tesra.wire.common import Answer, Name, Wire


class UploadError(Answer):
    """Why the drive did not take it."""

    code: str
    detail: str
    way_out: str | None = None


class Upload(Answer):
    """An upload. ``offset`` is what is on disk for good of its ``length`` bytes.

    ``landing``: all of it is, and it is on its way into the drive. ``landed``: it stands at
    ``path`` since ``version``, or is the newest snapshot of ``project``. ``refused``: see
    ``error``; the bytes are kept, and POST to ``/land`` tries again.
    """

    id: str
    state: Literal["receiving", "landing", "landed", "refused"]
    become: Literal["file", "folder", "project"]
    path: str
    filename: str
    filetype: str
    length: int
    offset: int
    created_at: datetime
    expires_at: datetime
    version: int | None = None
    project: str | None = None
    error: UploadError | None = None


class ProjectFromDrive(Wire):
    """A folder of the drive (no content moves), or a zip or tar file there, which is unpacked."""

    path: str = Field(max_length=8192)
    name: Name | None = None
    version: int | None = Field(default=None, ge=1)


class Unpacked(Answer):
    """All files of an archive stand below ``path`` since this version of the drive."""

    path: str
    version: int
