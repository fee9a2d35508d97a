"""Private drives, as far as a server without keys can serve them.

It checks signatures, so that only a holder of the drive's keys moves its head, changes its keys or
ends it; it moves heads by compare and swap; it keeps the list of packs that the versions need. It
never sees a key, a name, or a root in the clear.
"""

from collections.abc import Sequence

from tesra.crypto.signing import is_signed
from tesra.db.engine import Tx
from tesra.db.notify import notify
from tesra.drive.model import PackUnknown
from tesra.drive.private.repository import (
    PrivateRepository,
    SealedChunkAt,
    StoredHead,
    StoredPrivate,
)
from tesra.drive.service import DriveService
from tesra.kit.errors import Conflict, Forbidden, Invalid, NotFound, TooMany
from tesra.kit.ids import EpochId, UserId
from tesra.storage.keychain import KeysBroken, read_document
from tesra.storage.pointers import SignedPointer, end_message, head_message, prune_message

MAX_DRIVES = 100


class PrivateDriveUnknown(NotFound):
    """You have no such private drive."""


class PrivateDriveTaken(Conflict):
    """This id of a private drive or epoch is taken."""


class NotSignedByItsOwner(Forbidden):
    """This is not signed with the drive's key."""


class VersionUnknown(NotFound):
    """The drive has no such version, or not any more."""


class HeadMoved(Conflict):
    """The drive was changed meanwhile."""


class KeysMoved(Conflict):
    """The drive's keys were changed meanwhile."""


class PacksMissing(Conflict):
    """The drive does not hold all packs that this version needs."""


class DocumentInvalid(Invalid):
    """This is no key document of the drive."""


class PrivateDriveService:
    """One for a server process."""

    def __init__(self, drive: DriveService) -> None:
        self._drive = drive
        self._repository = PrivateRepository()

    async def kept_packs(self, tx: Tx) -> set[tuple[EpochId, str]]:
        """(epoch, pack id) of all that the versions of all private drives need.

        For the collector of garbage, which can't read their trees: what is not in it, and not
        younger than an upload may take, is needed by no version.
        """
        return await self._repository.kept_packs(tx)

    async def create(
        self,
        tx: Tx,
        owner: UserId,
        id_: str,
        *,
        verify_key: bytes,
        epoch: EpochId,
        document: bytes,
    ) -> StoredPrivate:
        """A drive with the keys that its owner made; the same again is harmless."""
        drive = await self._drive.drive_of(tx, owner)
        found = await self._repository.find(tx, id_)
        if found is not None:
            if found.owner == owner and (found.number, found.document) == (1, document):
                return found
            raise PrivateDriveTaken
        if await self._repository.count(tx, drive.id) >= MAX_DRIVES:
            raise TooMany(f"You have {MAX_DRIVES} private drives: that is the most.")
        _check_document(document, id_, verify_key, number=1)
        if not await self._repository.add_epoch(tx, drive.id, epoch, id_):
            raise PrivateDriveTaken
        values = {
            "id": id_,
            "drive_id": drive.id,
            "verify_key": verify_key,
            "number": 1,
            "document": document,
            "epoch_id": epoch,
        }
        if not await self._repository.add(tx, values):
            raise PrivateDriveTaken
        await self._repository.tie_epoch(tx, epoch, id_)
        return await self._own(tx, owner, id_)

    async def find(
        self, tx: Tx, owner: UserId, id_: str
    ) -> tuple[StoredPrivate, StoredHead | None]:
        """The drive and its head."""
        found = await self._own(tx, owner, id_)
        return found, await self._repository.head(tx, id_, found.version)

    async def drives(
        self, tx: Tx, owner: UserId, *, after: str | None, limit: int
    ) -> list[tuple[StoredPrivate, StoredHead | None]]:
        """The owner's, the oldest first."""
        found = await self._repository.of_owner(tx, owner, after=after, limit=limit)
        return [(one, await self._repository.head(tx, one.id, one.version)) for one in found]

    async def heads(
        self, tx: Tx, owner: UserId, id_: str, *, before: int | None, limit: int
    ) -> list[StoredHead]:
        """The history, the newest first."""
        await self._own(tx, owner, id_)
        return await self._repository.heads(tx, id_, before=before, limit=limit)

    async def head(self, tx: Tx, owner: UserId, id_: str, version: int) -> StoredHead:
        """One version."""
        await self._own(tx, owner, id_)
        found = await self._repository.head(tx, id_, version)
        if found is None:
            raise VersionUnknown
        return found

    async def put_keys(
        self,
        tx: Tx,
        owner: UserId,
        id_: str,
        *,
        number: int,
        document: bytes,
        epoch: tuple[EpochId, int] | None,
    ) -> StoredPrivate:
        """Compare and swap of the key document; with ``epoch``, one begins behind that version."""
        now = await self._own(tx, owner, id_, lock=True)
        if (now.number, now.document) == (number, document):
            return now
        if now.number != number - 1:
            raise KeysMoved(way_out="Try again.")
        _check_document(document, id_, now.verify_key, number=number)
        writes_under = now.epoch
        if epoch is not None:
            writes_under, at_version = epoch
            if at_version != now.version:
                raise HeadMoved(way_out="Try again.")
            if not await self._repository.add_epoch(tx, now.drive_id, writes_under, id_):
                raise PrivateDriveTaken
            await self._repository.tie_epoch(tx, writes_under, id_)
        await self._repository.put_keys(
            tx, id_, number=number, document=document, epoch=writes_under
        )
        await notify(tx, f"private:{id_}")
        return await self._own(tx, owner, id_)

    async def move_head(
        self, tx: Tx, owner: UserId, pointer: SignedPointer, packs: Sequence[str]
    ) -> StoredHead:
        """The next version, when the head is still the one before it; again is harmless."""
        now = await self._own(tx, owner, pointer.drive, lock=True)
        there = await self._repository.head(tx, now.id, pointer.version)
        if there is not None and there.pointer == pointer:
            return there
        if pointer.version != now.version + 1:
            raise HeadMoved(way_out="Try again.")
        if pointer.epoch != now.epoch:
            raise KeysMoved(way_out="Try again.")
        message = head_message(pointer.drive, pointer.version, pointer.epoch, pointer.sealed)
        if not is_signed(message, pointer.signature, now.verify_key):
            raise NotSignedByItsOwner
        await self._keep(tx, now.id, packs, since=pointer.version)
        await self._repository.move_head(tx, now.id, pointer)
        await notify(tx, f"private:{now.id}")
        found = await self._repository.head(tx, now.id, pointer.version)
        assert found is not None  # just made
        return found

    async def prune(
        self,
        tx: Tx,
        owner: UserId,
        id_: str,
        *,
        versions: tuple[int, int],
        packs: Sequence[str],
        signature: bytes,
    ) -> int:
        """Forget the versions before ``versions[0]``, at head ``versions[1]``; how many there were."""
        keep_from, at_version = versions
        now = await self._own(tx, owner, id_, lock=True)
        if not is_signed(prune_message(id_, versions, packs), signature, now.verify_key):
            raise NotSignedByItsOwner
        if at_version != now.version or keep_from > now.version:
            raise HeadMoved(way_out="Try again.")
        await self._repository.let_go(tx, id_)
        await self._keep(tx, id_, packs, since=keep_from)
        return await self._repository.forget_versions(tx, id_, before=keep_from)

    async def end(self, tx: Tx, owner: UserId, id_: str, signature: bytes) -> None:
        """The drive is gone; its packs go with the next collection of garbage."""
        now = await self._own(tx, owner, id_, lock=True)
        if not is_signed(end_message(id_), signature, now.verify_key):
            raise NotSignedByItsOwner
        await self._repository.end(tx, id_)

    async def missing(
        self, tx: Tx, owner: UserId, id_: str, epoch: EpochId, ids: list[str]
    ) -> list[str]:
        """Those of the chunks that the epoch lacks."""
        await self.check_epoch(tx, owner, id_, epoch)
        return await self._drive.missing(tx, owner, epoch, ids)

    async def check_epoch(self, tx: Tx, owner: UserId, id_: str, epoch: EpochId) -> None:
        """Refuse an epoch that is not the one to write under."""
        if (await self._own(tx, owner, id_)).epoch != epoch:
            raise KeysMoved(way_out="Try again.")

    async def check_packs(self, tx: Tx, owner: UserId, id_: str, packs: Sequence[str]) -> None:
        """Refuse packs that are not the drive's."""
        await self._own(tx, owner, id_)
        if not set(packs) <= await self._repository.own_packs(tx, id_, packs):
            raise PackUnknown

    async def locate(
        self, tx: Tx, owner: UserId, id_: str, ids: Sequence[str]
    ) -> list[SealedChunkAt]:
        """Where these chunks lie, in whatever epoch of the drive."""
        await self._own(tx, owner, id_)
        return await self._repository.locate(tx, id_, [bytes.fromhex(one) for one in ids])

    async def _keep(self, tx: Tx, id_: str, packs: Sequence[str], *, since: int) -> None:
        wanted = sorted({bytes.fromhex(one) for one in packs})
        found = await self._repository.lock_packs(tx, id_, wanted)
        if len({pack for _, pack in found}) != len(wanted):
            raise PacksMissing(way_out="Send it again.")
        await self._repository.keep_packs(tx, id_, found, since=since)

    async def _own(self, tx: Tx, owner: UserId, id_: str, *, lock: bool = False) -> StoredPrivate:
        found = await self._repository.find(tx, id_, lock=lock)
        if found is None or found.owner != owner:
            raise PrivateDriveUnknown(way_out="`tesra drive drives` lists yours.")
        return found


def _check_document(document: bytes, id_: str, verify_key: bytes, *, number: int) -> None:
    try:
        read = read_document(document, drive=id_, verify_key=verify_key)
    except KeysBroken as error:
        raise DocumentInvalid(error.detail) from error
    if read.number != number:
        raise DocumentInvalid("The key document has another number than was said.")
