"""What opens a private drive, and how it is kept where nobody may read it.

A *keychain* has the drive's name, its signing key and the keys of all its epochs. It is kept in a
*key document*: the keychain sealed under a fresh key, that key sealed to the public key of every
*holder* (a device, the password, the recovery kit), and all of it signed with the drive's signing
key. The server keeps the document and can open nothing of it (docs/spec/private-drives.md).
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgpack
from blake3 import blake3

from tesra.crypto.aead import SealBroken, Sealer
from tesra.crypto.passphrases import Stretch
from tesra.crypto.sealing import open_sealed, public_of, seal_to
from tesra.crypto.signing import Signer, is_signed
from tesra.kit.errors import Conflict, Forbidden
from tesra.storage.format import ID_BYTES, KEY_BYTES, EpochKeys, new_keys

HolderKind = Literal["device", "password", "kit"]
MAX_DOCUMENT_BYTES = 256 * 2**10
MAX_HOLDERS = 200
SIGNED_LABEL = b"tesra keys 1\0"

_DOCUMENT = "keys1"
_KEYCHAIN = "keychain1"


class KeysBroken(Conflict):
    """The drive's key document is not what its owner's devices made."""


class NotAHolder(Forbidden):
    """This key does not open the drive."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One set of keys, and the version of the tree from which on it is the one to write with."""

    keys: EpochKeys
    from_version: int


@dataclass(frozen=True, slots=True)
class Keychain:
    """Everything secret about one private drive; ``epochs`` has the oldest first."""

    drive: str
    name: str
    signing_key: bytes
    epochs: tuple[Epoch, ...]
    labels: Mapping[str, str]  # of holders, by id: what people call them

    def __repr__(self) -> str:
        return f"Keychain({self.drive!r})"  # keys never reach a log

    @property
    def signer(self) -> Signer:
        return Signer(self.signing_key)

    @property
    def newest(self) -> Epoch:
        return self.epochs[-1]

    def keys_of(self, epoch: str) -> EpochKeys | None:
        return next((one.keys for one in self.epochs if one.keys.id == epoch), None)

    def epoch_at(self, version: int) -> Epoch:
        """The epoch that a version of the tree has to be signed under."""
        begun = (one for one in reversed(self.epochs) if one.from_version <= version)
        return next(begun, self.epochs[0])

    def rotated(self, epoch: str, from_version: int) -> "Keychain":
        """With a new epoch to write with; the old ones stay, to read with."""
        fresh = Epoch(new_keys(epoch), from_version)
        return replace(self, epochs=(*self.epochs, fresh))


@dataclass(frozen=True, slots=True)
class Holder:
    """Who can open the keychain. ``proof`` binds the drive's verifying key to its private key."""

    id: str
    kind: HolderKind
    public: bytes
    proof: bytes
    stretch: Stretch | None = None  # of the password's
    wrapped: bytes = b""


@dataclass(frozen=True, slots=True)
class KeyDocument:
    """As the server keeps it; ``number`` grows with each change."""

    drive: str
    number: int
    verify_key: bytes
    sealed: bytes
    holders: tuple[Holder, ...]

    def holder(self, id_: str) -> Holder | None:
        return next((one for one in self.holders if one.id == id_), None)

    def of_kind(self, kind: HolderKind) -> list[Holder]:
        return [one for one in self.holders if one.kind == kind]


def new_keychain(drive: str, name: str, epoch: str) -> Keychain:
    """Fresh keys for a fresh drive."""
    signing_key = os.urandom(KEY_BYTES)
    return Keychain(drive, name, signing_key, (Epoch(new_keys(epoch), 1),), {})


def new_holder(
    id_: str,
    kind: HolderKind,
    private: bytes,
    *,
    chain: Keychain,
    stretch: Stretch | None = None,
) -> Holder:
    """Who has ``private``, ready to be put into a document."""
    proof = _proof(private, chain.drive, chain.signer.public)
    return Holder(id_, kind, public_of(private), proof, stretch)


def issue(chain: Keychain, holders: Iterable[Holder], number: int) -> bytes:
    """The signed document that just these holders can open."""
    key = os.urandom(KEY_BYTES)
    wrapped = [
        replace(one, wrapped=seal_to(one.public, key, _wrapping(chain.drive, number, one.id)))
        for one in holders
    ]
    sealed = Sealer(key).seal(_pack_keychain(chain), _sealing(chain.drive, number))
    rows = [_pack_holder(one) for one in wrapped]
    body = _packed([_DOCUMENT, chain.drive, number, chain.signer.public, sealed, rows])
    return _packed([body, chain.signer.sign(SIGNED_LABEL + body)])


def read_document(data: bytes, *, drive: str, verify_key: bytes | None = None) -> KeyDocument:
    """The document in ``data``, signed by the key it names, which is ``verify_key`` if given.

    Raises ``KeysBroken`` for anything else.
    """
    try:
        body, signature = msgpack.unpackb(data, raw=False)
        tag, named, number, public, sealed, rows = msgpack.unpackb(body, raw=False)
        holders = tuple(_read_holder(row) for row in rows)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise KeysBroken("The drive's key document does not parse.") from error
    shapes = (number, int), (public, bytes), (sealed, bytes), (signature, bytes)
    if tag != _DOCUMENT or named != drive or not all(isinstance(*shape) for shape in shapes):
        raise KeysBroken("The drive's key document is another drive's, or of an unknown kind.")
    if verify_key is not None and public != verify_key:
        raise KeysBroken("The drive's key document is signed by another key than before.")
    if not 1 <= len(holders) <= MAX_HOLDERS or number < 1:
        raise KeysBroken("The drive's key document makes no sense.")
    if not is_signed(SIGNED_LABEL + body, signature, public):
        raise KeysBroken("The drive's key document was changed: its signature does not fit.")
    return KeyDocument(drive, number, public, sealed, holders)


def open_document(document: KeyDocument, holder: Holder, private: bytes) -> Keychain:
    """The keychain; ``NotAHolder`` when the private key is not that holder's.

    The holder's proof was made with the private key: who has it can't be given another drive.
    """
    if public_of(private) != holder.public:
        raise NotAHolder
    if _proof(private, document.drive, document.verify_key) != holder.proof:
        raise KeysBroken("The drive's key document is not the one that this key was made for.")
    context = _wrapping(document.drive, document.number, holder.id)
    try:
        key = open_sealed(private, holder.wrapped, context)
        plain = Sealer(key).open(document.sealed, _sealing(document.drive, document.number))
    except (SealBroken, ValueError) as error:
        raise KeysBroken("The drive's keys do not open: the document was changed.") from error
    chain = _read_keychain(plain, document.drive)
    if chain.signer.public != document.verify_key:
        raise KeysBroken("The drive's keys are not those that signed the document.")
    return chain


def _proof(private: bytes, drive: str, verify_key: bytes) -> bytes:
    key = blake3(private, derive_key_context="tesra 2026 private drive holder proof").digest()
    return blake3(verify_key + drive.encode(), key=key).digest()


def _wrapping(drive: str, number: int, holder: str) -> bytes:
    return f"keys:{drive}:{number}:{holder}".encode()


def _sealing(drive: str, number: int) -> bytes:
    return f"keychain:{drive}:{number}".encode()


def _packed(plain: list[Any]) -> bytes:
    return bytes(msgpack.packb(plain, use_bin_type=True))


def _pack_keychain(chain: Keychain) -> bytes:
    epochs = [
        [one.keys.id, one.keys.id_key, one.keys.data_key, one.from_version] for one in chain.epochs
    ]
    labels = dict(sorted(chain.labels.items()))
    return _packed([_KEYCHAIN, chain.drive, chain.name, chain.signing_key, epochs, labels])


def _read_keychain(plain: bytes, drive: str) -> Keychain:
    tag, named, name, signing_key, rows, labels = msgpack.unpackb(plain, raw=False)
    if tag != _KEYCHAIN or named != drive or not rows:
        raise KeysBroken("The drive's keys are of an unknown kind: update Tesra.")
    epochs = tuple(Epoch(EpochKeys(*keys), from_version) for *keys, from_version in rows)
    return Keychain(drive, name, signing_key, epochs, labels)


def _pack_holder(holder: Holder) -> list[Any]:
    stretch = holder.stretch
    costs = (
        [stretch.salt, stretch.memory_kib, stretch.iterations, stretch.lanes] if stretch else None
    )
    return [holder.id, holder.kind, holder.public, holder.proof, costs, holder.wrapped]


def _read_holder(row: Any) -> Holder:
    match row:
        case [
            str() as id_,
            "device" | "password" | "kit" as kind,
            bytes() as public,
            bytes() as proof,
            None | [bytes(), int(), int(), int()] as costs,
            bytes() as wrapped,
        ] if len(public) == ID_BYTES:
            stretch = Stretch(*costs) if costs else None
            return Holder(id_, kind, public, proof, stretch, wrapped)
        case _:
            raise ValueError("a holder is of an unknown kind")
