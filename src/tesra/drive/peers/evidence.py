"""What peers show and say of the copies that they should have; a good word is believed only with
a proof, a bad one always."""

import logging
from collections.abc import Awaitable, Callable, Sequence

from tesra.db.engine import Tx
from tesra.drive.peers.auditing import standing_after
from tesra.drive.peers.care_repository import PROVE, SCRUB, CareRepository
from tesra.drive.peers.placement import CONTAINED
from tesra.drive.peers.repository import LATER, PeerRepository
from tesra.kit.ids import PeerId
from tesra.kit.saying import Said, said
from tesra.security.alarms import AlarmService, Kind
from tesra.storage.merkle import BlockUntrue, PackTree, check_block
from tesra.wire.peer import (
    Dropped,
    FetchFailed,
    Held,
    Lost,
    Proof,
    ProvenBlock,
    Quarantined,
    Scrubbed,
)

log = logging.getLogger(__name__)

Kick = Callable[[Tx], Awaitable[object]]  # have repairs planned soon

Topics = list[str]
_TOLD_ONE_BY_ONE = 100
_MISSING = said("the peer did not have it any more when it started")


async def no_kick(_: Tx) -> None:
    """Whoever plans repairs looks by the clock anyway."""


class Evidence:
    """Applies what comes in, in the caller's transaction; answers the topics to wake."""

    def __init__(self, alarms: AlarmService, *, kick: Kick = no_kick) -> None:
        self._alarms = alarms
        self._kick = kick
        self._copies = PeerRepository()
        self._audits = CareRepository()

    async def held(self, tx: Tx, peer: PeerId, done: Held) -> Topics:
        """A copy has come in, whole. Its sources hear with their next orders, by and by, that they
        need not serve it any more; at once when they may have the next one to give."""
        own = await self._copies.copy(tx, done.pack, peer)
        if own is None or own.state not in {"wanted", "lost"}:
            return []  # said before, or not wanted any more
        await self._copies.set_copy(tx, done.pack, peer, "held")
        after = own.sources if own.reason == LATER else ()
        return [f"pack:{done.pack}", *(f"peer:{source}" for source in after)]

    async def failed(self, tx: Tx, peer: PeerId, failed: FetchFailed) -> Topics:
        """It could not be fetched: another peer may, and this one later again."""
        own = await self._copies.copy(tx, failed.pack, peer)
        if own is None or own.state != "wanted":
            return []
        log.warning("%s could not fetch %s: %s", peer, failed.pack, failed.reason)
        await self._copies.set_copy(
            tx, failed.pack, peer, "lost", reason=failed.reason, tries=own.tries + 1
        )
        return [f"pack:{failed.pack}"]

    async def dropped(self, tx: Tx, peer: PeerId, dropped: Dropped) -> Topics:
        """Deleted as ordered. What was wanted again too late is lost there."""
        own = await self._copies.copy(tx, dropped.pack, peer)
        if own is not None and own.state == "held":
            return await self.lost(tx, peer, Lost(pack=dropped.pack, reason=said("it was dropped")))
        if own is not None and own.state == "dropping":
            await self._copies.forget_copy(tx, dropped.pack, peer)
            return [f"pack:{dropped.pack}"]
        return []

    async def proof(self, tx: Tx, peer: PeerId, proof: Proof) -> Topics:
        """The blocks of a challenge: proven, or the copy is not what it was."""
        asked = await self._audits.challenges(tx, peer=peer, audit=proof.audit)
        if not asked or asked[0].pack_id != proof.pack:
            return []  # answered before, or asked anew meanwhile
        tree = (await self._copies.trees(tx, [proof.pack]))[proof.pack]
        try:
            _check(tree, asked[0].blocks, proof.blocks)
        except BlockUntrue as error:
            return await self._spoilt(tx, peer, proof.pack, Said(error.detail))
        await self._audits.close(tx, proof.pack, peer, PROVE)
        await self._copies.note_proven(tx, proof.pack, peer)
        await self._stands(tx, peer, good=True)
        return [f"pack:{proof.pack}", f"audit:{peer}"]

    async def scrubbed(self, tx: Tx, peer: PeerId, done: Scrubbed) -> Topics:
        """The peer has looked all of it through, and says it is good: no proof."""
        await self._audits.close(tx, done.pack, peer, SCRUB)
        return [f"audit:{peer}"]

    async def lost(self, tx: Tx, peer: PeerId, lost: Lost) -> Topics:
        """The peer does not have it any more, or has it spoilt."""
        own = await self._copies.copy(tx, lost.pack, peer)
        await self._audits.close(tx, lost.pack, peer)
        if own is None or own.state not in {"held", "wanted"}:
            return [f"audit:{peer}"]
        if lost.bad:
            return await self._spoilt(tx, peer, lost.pack, lost.reason)
        await self._copies.set_copy(tx, lost.pack, peer, "lost", reason=lost.reason)
        await self._sound(tx, Kind.LOST, peer, lost.pack, lost.reason or said("it is not there"))
        await self._kick(tx)
        return [f"pack:{lost.pack}", f"audit:{peer}"]

    async def missing(self, tx: Tx, peer: PeerId, pack_ids: Sequence[str]) -> None:
        """The peer has come back without these: its disk was lost, or something on it."""
        for pack_id in pack_ids:
            await self._copies.set_copy(tx, pack_id, peer, "lost", reason=_MISSING)
            await self._audits.close(tx, pack_id, peer)
        for pack_id in pack_ids[:_TOLD_ONE_BY_ONE]:
            await self._sound(tx, Kind.LOST, peer, pack_id, _MISSING)
        if len(pack_ids) > _TOLD_ONE_BY_ONE:
            _, _, name = await self._audits.standing(tx, peer)
            words = said(f"{name} has come back without {len(pack_ids)} of its copies.")
            await self._alarms.sound(tx, Kind.LOST, peer, words)
        if pack_ids:
            await self._kick(tx)

    async def quarantined(self, tx: Tx, peer: PeerId, done: Quarantined) -> Topics:
        """The bad copy is out of the way: the peer may get a good one."""
        own = await self._copies.copy(tx, done.pack, peer)
        if own is not None and own.state == "bad":
            await self._copies.forget_copy(tx, done.pack, peer)
            await self._kick(tx)
        return [f"pack:{done.pack}"]

    async def stalls(self, tx: Tx, peer: PeerId, *, audit: str) -> None:
        """It speaks, and has not shown what it was asked for."""
        await self._audits.note_stalled(tx, audit)
        standing, _, name = await self._audits.standing(tx, peer)
        if standing != CONTAINED:
            await self._audits.set_standing(tx, peer, CONTAINED, 0)
            words = said(f"{name} answers, but does not show the blocks that it is asked for.")
            await self._alarms.sound(tx, Kind.STALLS, peer, words)
            await self._kick(tx)

    async def _spoilt(self, tx: Tx, peer: PeerId, pack_id: str, why: Said) -> Topics:
        await self._audits.close(tx, pack_id, peer)
        await self._copies.set_copy(tx, pack_id, peer, "bad", reason=why)
        await self._stands(tx, peer, good=False)
        await self._sound(tx, Kind.TAMPERED, peer, pack_id, why)
        await self._kick(tx)
        return [f"pack:{pack_id}", f"peer:{peer}", f"audit:{peer}"]

    async def _stands(self, tx: Tx, peer: PeerId, *, good: bool) -> None:
        before, proofs, _ = await self._audits.standing(tx, peer)
        standing, proofs = standing_after(before, proofs, good=good)
        await self._audits.set_standing(tx, peer, standing, proofs)
        if before == CONTAINED and standing != CONTAINED:
            await self._alarms.over(tx, Kind.STALLS, [peer])

    async def _sound(self, tx: Tx, kind: Kind, peer: PeerId, pack_id: str, why: Said) -> None:
        _, _, name = await self._audits.standing(tx, peer)
        if await self._alarms.count_open(tx, kind, f"@{peer}") >= _TOLD_ONE_BY_ONE:
            words = said(
                f"More copies on {name} have been changed than are told one by one."
                if kind is Kind.TAMPERED
                else f"More copies on {name} are gone than are told one by one."
            )
            await self._alarms.sound(tx, kind, peer, words)
            return
        words = said(
            f"The copy of pack {pack_id} on {name} has been changed: {why}"
            if kind is Kind.TAMPERED
            else f"The copy of pack {pack_id} on {name} is gone: {why}"
        )
        await self._alarms.sound(tx, kind, f"{pack_id}@{peer}", words, pack_id=pack_id)


def _check(tree: PackTree, asked: tuple[int, ...], shown: list[ProvenBlock]) -> None:
    """Every block that was asked for, each true; raises ``BlockUntrue``."""
    by_number = {one.block: one for one in shown}
    for block in asked:
        one = by_number.get(block)
        if one is None:
            raise BlockUntrue(f"block {block} was not shown")
        check_block(tree, block, one.content(), [bytes.fromhex(step) for step in one.path])
