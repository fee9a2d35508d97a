"""Links that open a path of a drive to who has no account."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from tesra.wire.common import Answer, Wire
from tesra.wire.files import Path

MAX_LIFE_S = 10 * 365 * 86_400


class ShareRequest(Wire):
    """``live``: what stands at the path whenever it is asked for, not what stands there now."""

    path: Path
    live: bool = False
    expires_s: int | None = Field(default=None, ge=1, le=MAX_LIFE_S)
    password: str | None = Field(default=None, min_length=1, max_length=256, repr=False)
    max_downloads: int | None = Field(default=None, ge=1, le=1_000_000_000)


class Share(Answer):
    """A link; ``version`` is the one that it shows, None for the live one."""

    id: str
    path: str
    kind: Literal["file", "dir", "live"]
    version: int | None
    state: Literal["open", "expired", "used_up", "revoked"]
    password: bool
    downloads: int
    max_downloads: int | None
    created_at: datetime
    expires_at: datetime | None
    last_download_at: datetime | None


class NewShare(Share):
    """``address`` is told this once; the server keeps its hash alone."""

    address: str
    url: str
