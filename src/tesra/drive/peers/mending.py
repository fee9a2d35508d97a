"""A pack that can't be read in the gateway's folder is brought back from another peer while the
reader waits."""

import asyncio

from tesra.db.engine import Database
from tesra.db.notify import Listener, notify_all
from tesra.drive.peers.care import CareService
from tesra.drive.peers.errors import PackAway, PackLocked
from tesra.drive.peers.evidence import Evidence
from tesra.drive.peers.repository import PeerRepository
from tesra.kit.ids import PeerId
from tesra.kit.saying import said
from tesra.wire.peer import Lost

PATIENCE_S = 30.0
_LOOK_S = 1.0


class Mender:
    """One for a server process; a pack is mended once, however many wait for it."""

    def __init__(
        self,
        database: Database,
        listener: Listener,
        evidence: Evidence,
        care: CareService,
        *,
        gateway: PeerId,
    ) -> None:
        self._database = database
        self._listener = listener
        self._evidence = evidence
        self._care = care
        self._gateway = gateway
        self._copies = PeerRepository()
        self._working: dict[str, asyncio.Task[None]] = {}

    async def mend(self, pack_id: str, spoilt: bool) -> None:
        """The file in the gateway's folder is ``spoilt``, or not there: return when a good one is.

        Nothing happens for a pack that no peers keep. Raises ``PackLocked``, ``PackAway``.
        """
        task = self._working.get(pack_id)
        if task is None:
            task = self._working[pack_id] = asyncio.create_task(self._mend(pack_id, spoilt=spoilt))
            task.add_done_callback(lambda _: self._working.pop(pack_id, None))
        await asyncio.shield(task)

    async def _mend(self, pack_id: str, *, spoilt: bool) -> None:
        async with self._database.begin() as tx:
            if not await self._copies.trees(tx, [pack_id]):
                return
            reason = said("the server found it so when it read it")
            lost = Lost(pack=pack_id, bad=spoilt, reason=reason)
            topics = await self._evidence.lost(tx, self._gateway, lost)
            if topics:
                await notify_all(tx, topics)
        with self._listener.subscribe(f"pack:{pack_id}") as changes:
            loop = asyncio.get_running_loop()
            deadline = loop.time() + PATIENCE_S
            while not await self._is_back(pack_id):
                if loop.time() > deadline:
                    raise PackAway(way_out="Try again; the operator sees why: `tesra alarms`.")
                await changes.wait(_LOOK_S)

    async def _is_back(self, pack_id: str) -> bool:
        """Whether the gateway holds it again; orders what is missing."""
        async with self._database.begin() as tx:
            states = {row.peer_id: row.state for row in await self._copies.copies(tx, pack_id)}
            if states.get(self._gateway) == "held":
                return True
            if "held" not in states.values():
                raise PackLocked(
                    f"No good copy of pack {pack_id} is left: what needs it is locked until one "
                    "comes back.",
                    way_out="`tesra drive health` names the files; who still has them can put them "
                    "again. The operator has been alarmed.",
                )
            await self._care.repair_pack(tx, pack_id)
        return False
