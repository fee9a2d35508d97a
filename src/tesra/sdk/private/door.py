"""The server's side of private drives, as their owner's device speaks to it."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from tesra.sdk.connection import PREFIX, Connection
from tesra.sdk.transfer import HttpDoor
from tesra.storage.packing import Pack
from tesra.storage.pointers import SignedPointer
from tesra.wire.private import (
    ChunksAsked,
    ChunksFound,
    Farewell,
    HeadKept,
    HeadMove,
    KeysMove,
    NewPrivateDrive,
    PackHealth,
    PacksAsked,
    PacksHealth,
    PrivateDrive,
    Prune,
    Pruned,
    SealedAt,
    SignedHead,
)

_IDS_AT_ONCE = 20_000


class PrivateDoor:
    """One private drive on the server. All its requests may be repeated."""

    def __init__(self, connection: Connection, drive: str) -> None:
        self._connection = connection
        self._path = f"/private/{drive}"
        self._drive = drive
        self._packs = HttpDoor(connection.http, PREFIX + self._path)

    def create(self, wanted: NewPrivateDrive) -> PrivateDrive:
        return self._connection.put(self._path, PrivateDrive, wanted)

    def show(self) -> PrivateDrive:
        return self._connection.get(self._path, PrivateDrive)

    def end(self, signature: bytes) -> None:
        self._connection.send("DELETE", self._path, Farewell(signature=signature.hex()))

    def put_keys(
        self, number: int, document: bytes, epoch: str | None = None, at_version: int | None = None
    ) -> PrivateDrive:
        wanted = KeysMove(
            number=number, document=document.hex(), epoch=epoch, at_version=at_version
        )
        return self._connection.put(f"{self._path}/keys", PrivateDrive, wanted)

    def move_head(self, pointer: SignedPointer, packs: Iterable[str]) -> None:
        head = SignedHead(
            version=pointer.version,
            epoch=pointer.epoch,
            sealed=pointer.sealed.hex(),
            signature=pointer.signature.hex(),
        )
        wanted = HeadMove(head=head, packs=sorted(packs))
        self._connection.put(f"{self._path}/head", HeadKept, wanted)

    def heads(self, limit: int | None = None) -> Iterator[SignedPointer]:
        """The history, the newest first."""
        for kept in self._connection.pages(f"{self._path}/heads", HeadKept, limit=limit):
            yield self.pointer(kept)

    def head(self, version: int) -> SignedPointer:
        """One version; raises ``NotFound``."""
        return self.pointer(self._connection.get(f"{self._path}/heads/{version}", HeadKept))

    def prune(self, wanted: Prune) -> Pruned:
        return self._connection.post(f"{self._path}/prune", Pruned, wanted)

    def locate(self, ids: Iterable[bytes]) -> dict[bytes, SealedAt]:
        """Where those chunks lie that are stored."""
        found: dict[bytes, SealedAt] = {}
        rest = iter(ids)
        while batch := [one.hex() for one in islice(rest, _IDS_AT_ONCE)]:
            answer = self._connection.post(
                f"{self._path}/chunks/locate", ChunksFound, ChunksAsked(ids=batch)
            )
            found |= {bytes.fromhex(one): at for one, at in answer.chunks.items()}
        return found

    def missing(self, epoch: str, ids: Sequence[bytes]) -> set[bytes]:
        known = self._packs.missing(epoch, [one.hex() for one in ids])
        return {bytes.fromhex(one) for one in known}

    def put_pack(self, epoch: str, pack: Pack) -> None:
        self._packs.put_pack(epoch, pack)

    def read_pack(self, pack_id: str, start: int, end: int) -> bytes:
        return self._packs.read_pack(pack_id, start, end)

    def read_again(self, pack_id: str, start: int, end: int) -> bytes:
        return self._packs.read_again(pack_id, start, end)

    def health(self, packs: Iterable[str]) -> tuple[int, dict[str, PackHealth]]:
        """How many copies are wanted, and how well each of these packs is kept."""
        wanted, found, rest = 0, dict[str, PackHealth](), iter(packs)
        while True:
            batch = list(islice(rest, _IDS_AT_ONCE))
            answer = self._connection.post(
                f"{self._path}/packs/health", PacksHealth, PacksAsked(packs=batch)
            )
            wanted, found = answer.wanted, found | answer.packs
            if len(batch) < _IDS_AT_ONCE:
                return wanted, found

    def pointer(self, kept: HeadKept) -> SignedPointer:
        return SignedPointer(
            self._drive,
            kept.version,
            kept.epoch,
            bytes.fromhex(kept.sealed),
            bytes.fromhex(kept.signature),
        )
