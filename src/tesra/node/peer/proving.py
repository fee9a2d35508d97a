"""What a peer shows of its packs, and how it looks them through itself. All calls block."""

import asyncio
import base64
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from blake3 import blake3

from tesra.kit.saying import said
from tesra.node.peer.folder import PackFolder
from tesra.storage.merkle import BLOCK_BYTES, PIECE_BYTES, prove
from tesra.wire.peer import Fact, Lost, Proof, ProofOrder, ProvenBlock, Scrubbed

LOOK_S = 15.0  # between two looks at what has become of the files
SCRUB_DAYS = 7.0  # every pack is read through once in that time
_READ_BYTES = 2**20
_SHORTEST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 600.0
_A_PIECE = PIECE_BYTES // BLOCK_BYTES

log = logging.getLogger(__name__)


def answer_challenge(folder: PackFolder, order: ProofOrder) -> Fact:
    """The blocks that were asked for, or that they can't be shown."""
    try:
        blocks = _show(folder.home_of(order.pack) / order.pack, order.blocks)
    except FileNotFoundError:
        return Lost(pack=order.pack, reason=said("it is not on the disk any more"))
    except OSError as error:
        return Lost(pack=order.pack, bad=True, reason=said(f"it can't be read: {error.strerror}"))
    return Proof(audit=order.audit, pack=order.pack, blocks=blocks)


def scrub(folder: PackFolder, pack_id: str) -> Fact:
    """Read all of a pack: its name is the hash of its content."""
    digest = blake3()
    try:
        with (folder.home_of(pack_id) / pack_id).open("rb", buffering=0) as file:
            while data := file.read(_READ_BYTES):
                digest.update(data)
    except FileNotFoundError:
        return Lost(pack=pack_id, reason=said("it is not on the disk any more"))
    except OSError as error:
        return Lost(pack=pack_id, bad=True, reason=said(f"it can't be read: {error.strerror}"))
    if digest.hexdigest() != pack_id:
        return Lost(pack=pack_id, bad=True, reason=said("its content is not what its name says"))
    return Scrubbed(pack=pack_id)


class Watcher:
    """Notices packs that somebody else writes to or deletes, without reading what is as it was."""

    def __init__(self, folder: PackFolder, say: Callable[[Fact], None]) -> None:
        self._folder = folder
        self._say = say

    async def run(self) -> None:
        while True:
            await asyncio.to_thread(self.step)
            await asyncio.sleep(LOOK_S)

    def step(self) -> None:
        """One look; what was written to is read through. In a thread."""
        changed, missing = self._folder.look()
        for pack_id in missing:
            self._say(Lost(pack=pack_id, reason=said("it is not on the disk any more")))
        for pack_id in changed:
            found = scrub(self._folder, pack_id)
            if isinstance(found, Lost):
                log.warning("pack %s: %s", pack_id, found.reason)
                self._say(found)


class Scrubber:
    """Looks every pack through by and by; what is bad is ``say``'d. Goes on where it was."""

    def __init__(
        self, folder: PackFolder, say: Callable[[Fact], None], *, days: float = SCRUB_DAYS
    ) -> None:
        self._folder = folder
        self._say = say
        self._round_s = days * 86_400.0

    async def run(self) -> None:
        while True:
            held = await asyncio.to_thread(self._folder.held)
            pause_s = self._round_s / max(1, len(held))
            await asyncio.sleep(min(max(pause_s, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S))
            if held and self._folder.scrub_is_due(pause_s):
                await asyncio.to_thread(self.step, held)

    def step(self, held: Sequence[str]) -> None:
        """The next pack behind the one that was looked through last; in a thread."""
        last = self._folder.last_scrubbed()
        pack_id = next((one for one in held if one > last), held[0])
        found = scrub(self._folder, pack_id)
        if isinstance(found, Lost) and found.bad:
            log.warning("pack %s: %s", pack_id, found.reason)
            self._say(found)
        self._folder.note_scrubbed(pack_id)


def _show(path: Path, blocks: Sequence[int]) -> list[ProvenBlock]:
    shown: list[ProvenBlock] = []
    with path.open("rb", buffering=0) as file:
        for block in blocks:
            piece, place = divmod(block, _A_PIECE)
            file.seek(piece * PIECE_BYTES)
            data = _read(file.read, PIECE_BYTES)
            own = data[place * BLOCK_BYTES : (place + 1) * BLOCK_BYTES]
            steps = [step.hex() for step in prove(data, place)] if own else []
            shown.append(ProvenBlock(block=block, data=base64.b64encode(own).decode(), path=steps))
    return shown


def _read(read: Callable[[int], bytes], size: int) -> bytes:
    """A raw read may give less than there is."""
    data = b""
    while len(data) < size and (more := read(size - len(data))):
        data += more
    return data
