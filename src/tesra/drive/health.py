"""How well the files of a drive are kept: each is found in its packs, each pack in its copies."""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass

from tesra.db.engine import Database
from tesra.drive.files.service import FileService, Found
from tesra.drive.kept import Kept, files_at, kept_of, nodes_of
from tesra.drive.peers.care_repository import CareRepository
from tesra.drive.peers.wellness import GoodCopy, of_pack
from tesra.drive.reach import Reach, Reaches
from tesra.drive.reading import EpochReader
from tesra.drive.service import DriveService
from tesra.kit.ids import UserId
from tesra.storage.editing import Parts, parse_path, show_path
from tesra.storage.tree import File, Folder
from tesra.storage.wellness import LOCKED, Wellness, say, worst
from tesra.wire.storage import DriveHealth, FileHealth

_BATCH = 500


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which files are to be named."""

    path: Parts
    after: Parts | None
    limit: int
    states: Collection[str] | None


class HealthService:
    """Reads only; for drives that the server has the keys of."""

    def __init__(self, database: Database, drive: DriveService, files: FileService) -> None:
        self._database = database
        self._drive = drive
        self._files = files
        self._repository = CareRepository()
        self._reaches = Reaches()

    async def of_path(
        self,
        owner: UserId,
        path: str,
        *,
        after: str | None = None,
        limit: int = 1000,
        states: Collection[str] | None = None,
    ) -> DriveHealth:
        """Every file below a path is counted; up to ``limit`` of them behind ``after`` are named
        (of those in one of the ``states``, if given)."""
        parts = parse_path(path)
        head, goal = await self._files.head(owner), await self._goal(owner)
        reader = await self._drive.reader(owner, head.epoch)
        if parts:
            await self._files.find(owner, path, version=head.number)  # says it if nothing is there
        reach = await self._reach(reader, head.root, parts)
        known = await self._packs(set(reach.packs), goal)
        locked = {pack for pack, found in known.items() if found.state == LOCKED}
        if locked:
            self._reaches.forget(locked)
            reach = await self._reach(reader, head.root, parts)
            known = await self._packs(set(reach.packs), goal)
        whole = worst(known.values())
        asked = _Asked(parts, parse_path(after) if after else None, limit, states)
        named = await self._named(reader, head.root, asked, known, goal=goal)
        return DriveHealth(
            path=show_path(parts),
            wanted=goal,
            copies=whole.copies if whole else 0,
            machines=whole.machines if whole else 0,
            last_proof=whole.last_proof if whole else None,
            state=whole.state if whole else "good",
            away=whole.away if whole else 0,
            words=say(whole),
            total=reach.total,
            files=named[:limit],
            next=named[limit - 1].path if len(named) > limit else None,
        )

    async def _reach(self, reader: EpochReader, root: bytes, parts: Parts) -> Reach:
        found = await reader.find(root, "/".join(parts)) if parts else Folder("", root)
        if isinstance(found, Folder):
            return await self._reaches.of(reader, found.tree)
        kept = [one async for one in files_at(reader, root, parts)]
        places = await reader.locate([chunk for one in kept for chunk in one.chunks])
        return Reach(len(kept), frozenset(place.pack_id for place in places.values()))

    async def _named(
        self,
        reader: EpochReader,
        root: bytes,
        asked: "_Asked",
        known: dict[str, Wellness],
        *,
        goal: int,
    ) -> list[FileHealth]:
        """One more than asked for, if there are."""

        async def wanted(tree: bytes) -> bool:
            if asked.states is None:
                return True
            below = await self._reaches.of(reader, tree)
            return any(known[pack].state in asked.states for pack in below.packs)

        named: list[FileHealth] = []
        files = files_at(reader, root, asked.path, after=asked.after, wanted=wanted)
        async for batch in _batches(files, min(_BATCH, asked.limit + 1)):
            for kept, found in await self._judge(reader, batch, known, goal=goal):
                if asked.states is None or found.state in asked.states:
                    named.append(_shown(show_path(kept.path), kept.size_bytes, found))
            if len(named) > asked.limit:
                break
        return named[: asked.limit + 1]

    async def of_files(self, owner: UserId, wanted: Sequence[Found]) -> list[FileHealth]:
        """How well each of these files is kept; folders and links are left out."""
        head, goal = await self._files.head(owner), await self._goal(owner)
        reader = await self._drive.reader(owner, head.epoch)
        nodes: dict[Parts, tuple[bytes, ...]] = {}
        kept: list[Kept] = []
        for found in wanted:
            if not isinstance(found.entry, File):
                continue
            above = found.path[:-1]
            if above not in nodes:
                folder = await self._files.find(owner, show_path(above), version=head.number)
                assert isinstance(folder.entry, Folder)
                nodes[above] = await nodes_of(reader, folder.entry.tree)
            kept.append(await kept_of(reader, found.path, found.entry, nodes[above]))
        judged: list[FileHealth] = []
        known: dict[str, Wellness] = {}
        for start in range(0, len(kept), _BATCH):
            batch = kept[start : start + _BATCH]
            for one, well in await self._judge(reader, batch, known, goal=goal):
                judged.append(_shown(show_path(one.path), one.size_bytes, well))
        return judged

    async def of_packs(
        self, owner: UserId, pack_ids: Collection[str]
    ) -> tuple[int, dict[str, Wellness]]:
        """How many copies the owner wants, and how well each of these packs is kept."""
        goal = await self._goal(owner)
        return goal, await self._packs(set(pack_ids), goal)

    async def _goal(self, owner: UserId) -> int:
        """How many copies the owner wants."""
        async with self._database.begin() as tx:
            return (await self._drive.drive_of(tx, owner)).copies

    async def _judge(
        self, reader: EpochReader, batch: Sequence[Kept], known: dict[str, Wellness], *, goal: int
    ) -> list[tuple[Kept, Wellness]]:
        ids = list(dict.fromkeys(chunk for kept in batch for chunk in kept.chunks))
        places = await reader.locate(ids)
        fresh = {place.pack_id for place in places.values()} - known.keys()
        known |= await self._packs(fresh, goal)
        judged = []
        for kept in batch:
            packs = {places[chunk].pack_id for chunk in kept.chunks}
            found = worst(known[pack] for pack in packs)
            assert found is not None  # a file lies in its folder's node at least
            judged.append((kept, found))
        return judged

    async def _packs(self, pack_ids: set[str], goal: int) -> dict[str, Wellness]:
        copies: dict[str, list[GoodCopy]] = {pack_id: [] for pack_id in pack_ids}
        async with self._database.begin() as tx:
            rows = await self._repository.proofs(tx, [bytes.fromhex(one) for one in pack_ids])
            tracked = await self._repository.tracked(tx, [bytes.fromhex(one) for one in pack_ids])
        for row in rows:
            copies[bytes(row.pack_id).hex()].append(
                GoodCopy(row.machine, row.reachable, row.proven_at)
            )
        alone = [GoodCopy("the server", reachable=True, proven_at=None)]
        return {
            pack_id: of_pack(found if pack_id in tracked else alone, goal)
            for pack_id, found in copies.items()
        }


async def _batches(found: AsyncIterator[Kept], most: int) -> AsyncIterator[list[Kept]]:
    batch: list[Kept] = []
    async for kept in found:
        batch.append(kept)
        if len(batch) == most:
            yield batch
            batch = []
    if batch:
        yield batch


def _shown(path: str, size_bytes: int, found: Wellness) -> FileHealth:
    return FileHealth(
        path=path,
        size_bytes=size_bytes,
        copies=found.copies,
        machines=found.machines,
        last_proof=found.last_proof,
        state=found.state,
        away=found.away,
    )
