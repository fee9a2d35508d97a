"""What a share link is, and what its visitors are told.

A download counts when it begins at the first byte. A limited link lets an address that began a
download within the last day go on with it (a range further behind), which counts nothing.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from tesra.kit.errors import Forbidden, Gone, Invalid, NotFound, TooMany, Unauthenticated
from tesra.kit.ids import EpochId, UserId

Kind = Literal["file", "dir", "live"]
State = Literal["open", "expired", "used_up", "revoked"]

SECRET_BYTES = 24
CONTINUED_WITHIN = timedelta(days=1)
GUESSES = 10
GUESSES_WITHIN = timedelta(minutes=5)
ENDED_KEPT = timedelta(days=30)  # so long a link says why it does not work any more
MAX_SHARES = 10_000


class ShareUnknown(NotFound):
    """There is no such link."""


class ShareExpired(Gone):
    """This link has expired."""


class ShareUsedUp(Gone):
    """This link has been used as often as it may be."""


class ShareRevoked(Gone):
    """This link has been withdrawn by its owner."""


class ShareEmpty(Gone):
    """What this link leads to is not there any more."""


class SharePasswordNeeded(Unauthenticated):
    """This link needs a password."""


class SharePasswordWrong(Unauthenticated):
    """This is not the link's password."""


class TooManyGuesses(TooMany):
    """Too many wrong passwords for this link."""


class DownloadNotBegun(Forbidden):
    """Begin at the first byte: this link counts its downloads."""


class NothingToShare(Invalid):
    """A symbolic link can't be shared."""


class TooManyShares(TooMany):
    """You have too many links."""


@dataclass(frozen=True, slots=True)
class StoredShare:
    """``root``, ``epoch`` and ``version`` are None for a live link."""

    id: str
    owner: UserId
    path: str
    kind: Kind
    epoch: EpochId | None
    root: bytes | None
    version: int | None
    password_hash: str | None
    downloads: int
    max_downloads: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_download_at: datetime | None
    expired: bool

    @property
    def state(self) -> State:
        if self.revoked_at is not None:
            return "revoked"
        if self.expired:
            return "expired"
        used_up = self.max_downloads is not None and self.downloads >= self.max_downloads
        return "used_up" if used_up else "open"


def new_secret() -> str:
    """What a link's address ends with; cannot be guessed."""
    return secrets.token_urlsafe(SECRET_BYTES)


def secret_hash(secret: str) -> bytes:
    """What is kept of it. A plain hash will do: it was drawn from 2^192."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


def address_hash(share: str, address: str) -> bytes:
    """Who began a download of a limited link, without keeping where they are."""
    return hashlib.sha256(f"{share}:{address}".encode()).digest()


def refuse_ended(share: StoredShare) -> None:
    """Raises for a link that nothing at all may be asked of any more."""
    if share.state == "revoked":
        raise ShareRevoked(way_out="Ask who gave it to you for another.")
    if share.state == "expired":
        raise ShareExpired(way_out="Ask who gave it to you for another.")
