"""Collection of garbage: mark, grace, sweep. Until the grace is over nothing is lost, and undo works.

Deletion runs in the reverse order of writing: versions that have expired and the index go in one
transaction, with the order to every holder to delete the pack; files go after. Whoever refers to
a marked chunk again takes the mark off (``DriveService``), and a sweep holds the head and the
marks while it deletes.
"""

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tesra.db.engine import Database, Tx
from tesra.drive.collecting import GRACE, UPLOAD, expired, history_from, is_garbage
from tesra.drive.collection_repository import CollectionRepository, EpochOf, History
from tesra.drive.model import Drive
from tesra.drive.peers.service import PeerService
from tesra.drive.private.service import PrivateDriveService
from tesra.drive.reading import EpochReader
from tesra.drive.service import DriveService
from tesra.kit.errors import TesraError
from tesra.kit.ids import EpochId, UserId
from tesra.wire.storage import Collection

SURVEYED = 200  # drives that an operator's look walks through

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Found:
    """Garbage by epoch, and the versions that have expired."""

    head: int
    versions: set[int]
    packs: dict[EpochId, dict[bytes, int]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return sum(len(packs) for packs in self.packs.values())

    @property
    def size_bytes(self) -> int:
        return sum(sum(packs.values()) for packs in self.packs.values())


@dataclass(slots=True)
class Survey:
    """Garbage of all drives; ``locked``: drives whose trees can't be read now."""

    drives: int
    looked_at: int = 0
    locked: int = 0
    packs: int = 0
    size_bytes: int = 0
    versions: int = 0


class Collector:
    """One for a server process."""

    def __init__(
        self,
        database: Database,
        drive: DriveService,
        private: PrivateDriveService,
        peers: PeerService,
        *,
        grace: timedelta = GRACE,
        upload: timedelta = UPLOAD,
    ) -> None:
        self._database = database
        self._drive = drive
        self._private = private
        self._peers = peers
        self._grace = grace
        self._upload = upload
        self._repository = CollectionRepository()

    async def collect_all(self) -> None:
        """Every drive, by the clock."""
        async with self._database.begin() as tx:
            owners = await self._repository.owners(tx)
        for owner in owners:
            try:
                await self.collect(owner)
            except TesraError as error:  # a locked file's tree can't be walked: nothing is deleted
                log.warning("garbage of %s is not collected: %s", owner, error.detail)
        await self._peers.clear_unreferenced()

    async def collect(
        self, owner: UserId, *, keep: timedelta | None = None, dry_run: bool = False
    ) -> Collection:
        """Mark what nothing needs, sweep what was marked long enough ago.

        ``keep``: from now on keep only this much history. ``dry_run`` changes nothing.
        """
        async with self._database.begin() as tx:
            drive = await self._drive.drive_of(tx, owner)
            history = await self._repository.history(tx, drive.id)
            epochs = await self._repository.epochs(tx, drive.id)
            asked = history.asked_from if keep is None else history.now - keep
            if keep is not None and not dry_run:
                await self._repository.set_retention(tx, drive.id, history.now - keep)
        found = await self._look(owner, history, epochs, history_from(history.now, asked))
        swept = _Found(found.head, set())
        if not dry_run:
            async with self._database.begin() as tx:
                for epoch in epochs:
                    garbage = found.packs.get(epoch.id, {})
                    await self._repository.mark(tx, epoch.id, garbage.keys())
            swept = await self._sweep(drive, epochs, found)
        return Collection(
            found=found.count,
            found_bytes=found.size_bytes,
            marked=found.count - swept.count if not dry_run else 0,
            swept=swept.count,
            swept_bytes=swept.size_bytes,
            versions=len(found.versions),
            grace_hours=self._grace.total_seconds() / 3600,
            dry_run=dry_run,
        )

    async def survey(self, *, limit: int = SURVEYED) -> Survey:
        """What a collection of every drive would find now; changes nothing. At most ``limit`` drives."""
        async with self._database.begin() as tx:
            owners = await self._repository.owners(tx)
        found = Survey(drives=len(owners))
        for owner in owners[:limit]:
            try:
                looked = await self.collect(owner, dry_run=True)
            except TesraError as error:
                log.warning("garbage of %s can't be told: %s", owner, error.detail)
                found.locked += 1
                continue
            found.looked_at += 1
            found.packs += looked.found
            found.size_bytes += looked.found_bytes
            found.versions += looked.versions
        return found

    async def undo(self, tx: Tx, owner: UserId) -> int:
        """Take all marks back; what was asked about the history is forgotten too."""
        drive = await self._drive.drive_of(tx, owner)
        return await self._repository.unmark_drive(tx, drive.id)

    async def _look(
        self, owner: UserId, history: History, epochs: list[EpochOf], keep_from: datetime
    ) -> _Found:
        gone = expired(
            history.versions, head=history.head, trashed=history.trashed, keep_from=keep_from
        )
        found = _Found(history.head, gone)
        kept = [root for number, root in history.roots.items() if number not in gone]
        async with self._database.begin() as tx:
            needed = await self._private.kept_packs(tx)
        for epoch in epochs:
            live: set[bytes] = set()
            if epoch.managed:
                async with self._database.begin() as tx:
                    roots = await self._repository.snapshot_roots(tx, epoch.id)
                roots += [root for own, root in kept if own == epoch.id]
                live = await _reached(await self._drive.reader(owner, epoch.id), roots)
            found.packs[epoch.id] = {}
            async with self._database.begin() as tx:
                stored = self._repository.packs(tx, epoch.id, older_than=self._upload)
                async for pack, size, chunks in stored:
                    alive = (epoch.id, pack.hex()) in needed
                    if not alive and (not epoch.managed or is_garbage(chunks, live)):
                        found.packs[epoch.id][pack] = size
        return found

    async def _sweep(self, drive: Drive, epochs: list[EpochOf], found: _Found) -> _Found:
        """Delete what is marked, still garbage, and past its grace; one transaction an epoch."""
        swept = _Found(found.head, set())
        for epoch in epochs:
            async with self._database.begin() as tx:
                await self._drive.lock_drive(tx, drive.id)
                if await self._repository.lock_head(tx, drive.id) != found.head:
                    break  # it was changed meanwhile: the next pass looks anew
                ripe = await self._repository.ripe(tx, epoch.id, self._grace)
                needed = await self._private.kept_packs(tx)
                packs = {
                    pack: size
                    for pack, size in ripe.items()
                    if pack in found.packs[epoch.id] and (epoch.id, pack.hex()) not in needed
                }
                if not packs:
                    continue
                await self._repository.forget_versions(tx, drive.id, found.versions)
                await self._repository.remove(tx, epoch.id, list(packs))
                await self._drive.give_back(tx, drive.id, sum(packs.values()))
                elsewhere = await self._repository.indexed(tx, list(packs))
                await self._peers.release(tx, [p.hex() for p in packs if p not in elsewhere])
                swept.packs[epoch.id] = packs
        log.info("swept %d packs of %s", swept.count, drive.id)
        return swept


async def _reached(reader: EpochReader, roots: list[bytes]) -> set[bytes]:
    """Every chunk that these trees need, each node read once."""
    live: set[bytes] = set()
    for root in roots:
        if root in live:
            continue
        async for _, node_id, node in reader.nodes(root, known=live):
            live.add(node_id)
            live.update(await reader.content_ids(node))
    return live
