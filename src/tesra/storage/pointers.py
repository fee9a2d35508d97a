"""The head of a private drive: which tree it has now, sealed so that only its holders can read it
and signed so that only they can move it. Each names the one before, so that a history can't be bent.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgpack
from blake3 import blake3

from tesra.crypto.aead import SealBroken, Sealer
from tesra.crypto.signing import Signer, is_signed
from tesra.kit.errors import Conflict
from tesra.storage.format import ID_BYTES, EpochKeys

FIRST = bytes(ID_BYTES)  # what the first names as the one before
MAX_POINTER_BYTES = 4096

_HEAD = "head1"
_PADDED_TO = 256  # so that its length does not tell what was done


class HeadBroken(Conflict):
    """The drive's head is not one that its owner's devices made."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """One version of a private drive's tree."""

    drive: str
    version: int
    epoch: str
    root: bytes
    words: str  # what was done, for people
    device: str
    made_at: datetime  # by the clock of the device
    before: bytes = FIRST  # ``link`` of the one before


@dataclass(frozen=True, slots=True)
class SignedPointer:
    """As the server keeps it."""

    drive: str
    version: int
    epoch: str
    sealed: bytes
    signature: bytes

    @property
    def link(self) -> bytes:
        """What the next one names."""
        return blake3(head_message(self.drive, self.version, self.epoch, self.sealed)).digest()


def sign_pointer(pointer: Pointer, keys: EpochKeys, signer: Signer) -> SignedPointer:
    """Sealed under its epoch's keys, signed with the drive's key."""
    made_at = int(pointer.made_at.timestamp())
    plain = msgpack.packb(
        [_HEAD, pointer.root, pointer.before, pointer.words, pointer.device, made_at],
        use_bin_type=True,
    )
    padded = plain + bytes(-len(plain) % _PADDED_TO)
    place = (pointer.drive, pointer.version, pointer.epoch)
    sealed = _sealer(keys).seal(padded, head_message(*place, b""))
    return SignedPointer(*place, sealed, signer.sign(head_message(*place, sealed)))


def open_pointer(signed: SignedPointer, keys: EpochKeys, verify_key: bytes) -> Pointer:
    """What was signed; ``HeadBroken`` when it was not by this key, or does not open."""
    message = head_message(signed.drive, signed.version, signed.epoch, signed.sealed)
    if not is_signed(message, signed.signature, verify_key):
        raise HeadBroken("The drive's head was changed: its signature does not fit.")
    place = head_message(signed.drive, signed.version, signed.epoch, b"")
    try:
        padded = _sealer(keys).open(signed.sealed, place)
        unpacker = msgpack.Unpacker(raw=False)
        unpacker.feed(padded)
        tag, root, before, words, device, made_at = unpacker.unpack()
    except (SealBroken, ValueError, TypeError, msgpack.UnpackException) as error:
        raise HeadBroken("The drive's head does not open: it was changed.") from error
    if tag != _HEAD:
        raise HeadBroken("The drive's head is of an unknown kind: update Tesra.")
    when = datetime.fromtimestamp(made_at, UTC)
    return Pointer(
        signed.drive, signed.version, signed.epoch, root, words, device, when, before=before
    )


def head_message(drive: str, version: int, epoch: str, sealed: bytes) -> bytes:
    """The bytes that are signed."""
    place = f"tesra head 1\0{drive}\0{epoch}\0".encode()
    return place + version.to_bytes(8) + sealed


def prune_message(drive: str, versions: tuple[int, int], packs: Iterable[str]) -> bytes:
    """What is signed to forget the versions before the first, worked out at head the second."""
    listed = ",".join(sorted(packs))
    return f"tesra prune 1\0{drive}\0{versions[0]}\0{versions[1]}\0{listed}".encode()


def end_message(drive: str) -> bytes:
    """What is signed to end a drive."""
    return f"tesra end 1\0{drive}".encode()


def _sealer(keys: EpochKeys) -> Sealer:
    return Sealer(blake3(b"head", key=keys.data_key).digest())
