"""A private drive as this device sees it: its keys opened, its head verified, what it saw pinned.

A server can keep a drive from its owner, but not show another drive, nor an older state than this
device has seen, without being found out.
"""

import os
from dataclasses import dataclass, replace

from tesra.crypto.sealing import public_of
from tesra.kit.errors import Conflict
from tesra.sdk.private.device import DeviceKey, DeviceKeys
from tesra.sdk.private.door import PrivateDoor
from tesra.storage.format import KEY_BYTES
from tesra.storage.keychain import (
    Keychain,
    KeyDocument,
    NotAHolder,
    open_document,
    read_document,
)
from tesra.storage.pointers import HeadBroken, Pointer, SignedPointer, open_pointer
from tesra.wire.private import PrivateDrive


class ShownAnOldState(Conflict):
    """The server shows an older state of the drive than this device has seen."""


class DeviceRemoved(NotAHolder):
    """This device was taken off the drive, or the drive's keys were made anew."""


@dataclass(frozen=True, slots=True)
class State:
    """Keys and head at one moment; ``head`` is None as long as nothing was put."""

    document: KeyDocument
    chain: Keychain
    head: Pointer | None
    signed: SignedPointer | None

    @property
    def version(self) -> int:
        return self.head.version if self.head else 0


class Keyring:
    """One drive on this device."""

    def __init__(self, keys: DeviceKeys, key: DeviceKey, door: PrivateDoor) -> None:
        self._keys = keys
        self.key = key
        self.door = door

    def state(self) -> State:
        """Keys and head as they are now, verified and pinned."""
        return self._seen(self.door.show())

    def open_head(self, signed: SignedPointer, chain: Keychain) -> Pointer:
        """One version; raises ``HeadBroken``, also when its epoch is not the one of its time."""
        epoch = chain.epoch_at(signed.version)
        if epoch.keys.id != signed.epoch:
            raise HeadBroken("The drive's head is not sealed with the keys of its time.")
        return open_pointer(signed, epoch.keys, chain.signer.public)

    def pin(self, signed: SignedPointer) -> None:
        """Remember a head that was just made here."""
        self._save(replace(self.key, version=signed.version, link=signed.link.hex()))

    def _seen(self, shown: PrivateDrive) -> State:
        document = read_document(
            bytes.fromhex(shown.document),
            drive=self.key.drive,
            verify_key=bytes.fromhex(self.key.verify_key),
        )
        if document.number < self.key.number:
            raise _old_state(f"key document {document.number}, not {self.key.number}")
        chain = self._open(document)
        signed = self.door.pointer(shown.head) if shown.head else None
        head = self.open_head(signed, chain) if signed else None
        version, link = (signed.version, signed.link.hex()) if signed else (0, "")
        if version < self.key.version or (version == self.key.version and link != self.key.link):
            raise _old_state(f"version {version}, not version {self.key.version} as seen")
        self._save(
            replace(self.key, name=chain.name, number=document.number, version=version, link=link)
        )
        return State(document, chain, head, signed)

    def _open(self, document: KeyDocument) -> Keychain:
        holder = document.holder(self.key.device)
        private = bytes.fromhex(self.key.private)
        if holder is None or holder.public != public_of(private):
            raise DeviceRemoved(
                way_out=f"`tesra drive unlock {self.key.name}` with the drive's password.",
            )
        return open_document(document, holder, private)

    def _save(self, key: DeviceKey) -> None:
        """Never lower what another process of this device has seen meanwhile."""
        if key == self.key:
            return
        there = self._keys.find(key.url, key.drive)
        if there is None or there.device != key.device:
            return  # locked, or unlocked anew, meanwhile
        newer = there if there.version > key.version else key
        number = max(there.number, key.number)
        key = replace(key, number=number, version=newer.version, link=newer.link)
        self._keys.save(key)
        self.key = key


def fresh_private() -> bytes:
    """A private key for a new holder."""
    return os.urandom(KEY_BYTES)


def _old_state(what: str) -> ShownAnOldState:
    return ShownAnOldState(
        f"The server shows an older state of the drive than this device has seen: {what}.",
        way_out="Was the server restored from a backup? Ask its operator. If so, and if you accept"
        " what is lost: `tesra drive lock NAME`, then `tesra drive unlock NAME`.",
    )
