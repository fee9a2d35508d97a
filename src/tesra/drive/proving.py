"""Whether a pack was made with its drive's keys, before it is kept."""

from tesra.drive.model import PackOfAnotherKey
from tesra.drive.pack_store import IncomingPack
from tesra.storage.format import ChunkBroken, EpochKeys, open_chunk
from tesra.storage.packing import entry_bytes


def require_own_key(keys: EpochKeys, incoming: IncomingPack) -> None:
    """Open the smallest chunk: of a pack that was made by another key none opens.

    A client that mixes keys within a pack is found out when the rest is read.
    """
    entry = min(incoming.entries, key=lambda one: one.length, default=None)
    if entry is None:
        return
    with incoming.part.open("rb") as file:
        sealed = entry_bytes(file, entry)
    try:
        plain = open_chunk(keys.chunk_key(entry.chunk_id), entry.chunk_id, sealed)
    except ChunkBroken as error:
        raise PackOfAnotherKey(way_out=_ANEW) from error
    if keys.chunk_id(plain) != entry.chunk_id:
        raise PackOfAnotherKey(way_out=_ANEW)


_ANEW = "Ask for the drive's present keys (`POST /drive/uploads`) and pack it anew."
