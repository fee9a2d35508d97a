"""Share links: a path of a drive, opened to whoever has the address.

Only the hash of an address' secret is kept. A download is counted before its first byte leaves,
in one statement, so that a link for N downloads never gives N + 1, however many ask at once.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from weakref import WeakValueDictionary

from tesra.db.engine import Database, Tx
from tesra.drive.aside import aside
from tesra.drive.files.service import FileService, Found
from tesra.drive.files.workbench import Workbench
from tesra.drive.model import refuse_private_path
from tesra.drive.reading import EpochReader
from tesra.drive.service import DriveService
from tesra.drive.shares.model import (
    CONTINUED_WITHIN,
    ENDED_KEPT,
    GUESSES,
    GUESSES_WITHIN,
    MAX_SHARES,
    DownloadNotBegun,
    NothingToShare,
    ShareEmpty,
    SharePasswordNeeded,
    SharePasswordWrong,
    ShareUnknown,
    ShareUsedUp,
    StoredShare,
    TooManyGuesses,
    TooManyShares,
    address_hash,
    new_secret,
    refuse_ended,
    secret_hash,
)
from tesra.drive.shares.repository import ShareRepository
from tesra.identity.model import normalise_password
from tesra.identity.passwords import Passwords
from tesra.kit.errors import NotFound
from tesra.kit.ids import EpochId, UserId, new_id
from tesra.storage.editing import parse_path, show_path
from tesra.storage.tree import Entry, File, Folder, Link, content_id
from tesra.wire.shares import NewShare, Share, ShareRequest


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a link will lead to; nothing refers to it yet."""

    request: ShareRequest
    path: str
    kind: str
    epoch: EpochId
    root: bytes
    version: int
    password_hash: str | None


@dataclass(frozen=True, slots=True)
class SharedFile:
    """One file behind a link."""

    name: str
    size_bytes: int
    etag: str
    file: File
    reader: EpochReader

    def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        return self.reader.content(self.file, start, end)


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """A folder behind a link."""

    name: str
    reader: EpochReader
    root: bytes


class ShareService:
    """Links to paths of drives that the server has the keys of."""

    def __init__(
        self,
        database: Database,
        drive: DriveService,
        files: FileService,
        *,
        passwords: Passwords | None = None,
    ) -> None:
        self._database = database
        self._drive = drive
        self._files = files
        self._passwords = passwords or Passwords()
        self._repository = ShareRepository()
        self._checking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def prepare(self, owner: UserId, request: ShareRequest) -> Prepared:
        """Look at what is to be shared, and hash the password: outside of any transaction."""
        refuse_private_path(request.path)
        pinned = await self._files.pin(owner, request.path)
        if isinstance(pinned.found.entry, Link):
            raise NothingToShare
        hashed = None
        if request.password is not None:
            hashed = await self._passwords.hash(normalise_password(request.password))
        return Prepared(
            request=request,
            path=show_path(parse_path(request.path)),
            kind="dir" if isinstance(pinned.found.entry, Folder) else "file",
            epoch=pinned.at.epoch,
            root=pinned.root,
            version=pinned.at.number,
            password_hash=hashed,
        )

    async def create(self, tx: Tx, owner: UserId, prepared: Prepared, *, base_url: str) -> NewShare:
        """The link, with its address, which is told this once."""
        drive = await self._drive.drive_of(tx, owner)
        if await self._repository.count(tx, drive.id) >= MAX_SHARES:
            raise TooManyShares(way_out="`tesra drive unshare` withdraws one.")
        request, secret = prepared.request, new_secret()
        values = {
            "drive_id": drive.id,
            "secret_hash": secret_hash(secret),
            "path": prepared.path,
            "kind": "live" if request.live else prepared.kind,
            "epoch_id": None if request.live else prepared.epoch,
            "root": None if request.live else prepared.root,
            "version": None if request.live else prepared.version,
            "password_hash": prepared.password_hash,
            "max_downloads": request.max_downloads,
        }
        made = await self._repository.add(tx, new_id("shr"), values, request.expires_s)
        address = f"/s/{secret}"
        known = _shown(made).model_dump()
        return NewShare(**known, address=address, url=base_url.rstrip("/") + address)

    async def shares(self, tx: Tx, owner: UserId, *, before: str | None, limit: int) -> list[Share]:
        """The owner's links, the newest first."""
        drive = await self._drive.drive_of(tx, owner)
        found = await self._repository.of_drive(tx, drive.id, before=before, limit=limit)
        return [_shown(share) for share in found]

    async def revoke(self, tx: Tx, owner: UserId, share: str) -> None:
        """From now on the link opens nothing."""
        drive = await self._drive.drive_of(tx, owner)
        if not await self._repository.revoke(tx, drive.id, share):
            raise ShareUnknown(way_out="`tesra drive shares` lists yours.")

    async def find(self, secret: str) -> StoredShare:
        """The link behind a secret; whoever asks may not know its password."""
        async with self._database.begin() as tx:
            share = await self._repository.by_secret(tx, secret_hash(secret))
        if share is None:
            raise ShareUnknown(way_out="Check the address: all of it is needed.")
        refuse_ended(share)
        return share

    async def admit(self, secret: str, password: str | None) -> StoredShare:
        """The link behind a secret, for who knows its password too."""
        share = await self.find(secret)
        if share.password_hash is not None:
            await self._check_password(share, share.password_hash, password)
        return share

    async def open(self, share: StoredShare, path: str | None) -> SharedFile | SharedFolder:
        """What the link leads to, or what stands at ``path`` in the folder that it leads to."""
        if share.root is None or share.epoch is None:
            return await self._open_live(share, path)
        reader = await self._drive.reader(share.owner, share.epoch)
        name, below = (parse_path(share.path) or ("drive",))[-1], parse_path(path or "")
        if share.kind == "file" and not below:
            return _opened(share, await anext(reader.entries(share.root)), reader, name)
        if share.kind == "file":
            raise ShareEmpty("This link leads to one file.", way_out="Leave the path out.")
        if not below:
            return SharedFolder(name, reader, share.root)
        return _opened(share, await reader.find(share.root, "/".join(below)), reader, name)

    async def entries(
        self, share: StoredShare, folder: SharedFolder, *, after: str | None, limit: int
    ) -> list[Entry]:
        """What a shared folder holds, behind a name."""
        epoch = EpochId(folder.reader.keys.id)
        work = Workbench(self._drive, share.owner, epoch, folder.reader)
        found = partial(work.editor.listing, folder.root, after=after)
        return await aside(lambda: list(islice(found(), limit)))

    async def count(self, share: StoredShare, *, address: str, what: str, begins: bool) -> None:
        """Admit a download; raises when the link has none left. Only what ``begins`` is counted.

        ``what`` tells this content from others of the link: only it may be gone on with.
        """
        who = address_hash(share.id, f"{what}:{address}")
        async with self._database.begin() as tx:
            if begins:
                taken = await self._repository.take(tx, share.id)
                if taken and share.max_downloads is not None:
                    await self._repository.begun(tx, share.id, who)
            else:
                taken = share.max_downloads is None or await self._repository.has_begun(
                    tx, share.id, who, CONTINUED_WITHIN
                )
        if not taken:
            raise _why_not(share, begins)

    async def purge(self, tx: Tx) -> int:
        """Forget links that ended long ago."""
        return await self._repository.purge(tx, ENDED_KEPT)

    async def _check_password(self, share: StoredShare, hashed: str, password: str | None) -> None:
        if password is None:
            raise SharePasswordNeeded(
                way_out="Send it as the password of Basic authentication, in the header"
                " Tesra-Share-Password, or as the form field 'password'."
            )
        # One at a time: parts fetched at once with the right password are not many guesses.
        async with self._checking.setdefault(share.id, asyncio.Lock()):
            await self._guess(share, hashed, password)

    async def _guess(self, share: StoredShare, hashed: str, password: str) -> None:
        async with self._database.begin() as tx:
            guesses = await self._repository.guess(tx, share.id, GUESSES_WITHIN)
        if guesses > GUESSES:
            seconds = round(GUESSES_WITHIN.total_seconds())
            raise TooManyGuesses(
                way_out=f"Try again in {seconds // 60} minutes.", retry_after_s=seconds
            )
        if not await self._passwords.verify(hashed, normalise_password(password)):
            raise SharePasswordWrong
        async with self._database.begin() as tx:
            await self._repository.take_guess_back(tx, share.id)

    async def _open_live(self, share: StoredShare, path: str | None) -> SharedFile | SharedFolder:
        whole = show_path((*parse_path(share.path), *parse_path(path or "")))
        at = await self._files.head(share.owner)
        try:
            found: Found = await self._files.find(share.owner, whole, version=at.number)
        except NotFound as error:
            raise ShareEmpty from error
        reader = await self._drive.reader(share.owner, at.epoch)
        return _opened(share, found.entry, reader, found.path[-1] if found.path else "drive")


def _opened(
    share: StoredShare, entry: File | Folder | Link, reader: EpochReader, name: str
) -> SharedFile | SharedFolder:
    if isinstance(entry, Link):
        raise ShareEmpty
    if isinstance(entry, Folder):
        return SharedFolder(entry.name or name, reader, entry.tree)
    etag = secret_hash(share.id + content_id(entry).hex()).hex()
    return SharedFile(entry.name or name, entry.size, etag, entry, reader)


def _why_not(share: StoredShare, begins: bool) -> NotFound | DownloadNotBegun:
    if begins or share.state == "used_up":
        return ShareUsedUp(way_out="Ask who gave it to you for another.")
    return DownloadNotBegun(way_out="Ask for the whole file first.")


def _shown(share: StoredShare) -> Share:
    return Share(
        id=share.id,
        path=share.path,
        kind=share.kind,
        version=share.version,
        state=share.state,
        password=share.password_hash is not None,
        downloads=share.downloads,
        max_downloads=share.max_downloads,
        created_at=share.created_at,
        expires_at=share.expires_at,
        last_download_at=share.last_download_at,
    )
