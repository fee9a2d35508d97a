"""What the owner of private drives does with their keys: make, unlock, recover, rotate, end.

Every change of keys is one new key document, put by compare and swap; until then nothing changed,
and whoever could open the drive still can.
"""

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from tesra.kit.errors import Conflict, Forbidden, NotFound
from tesra.kit.ids import new_id
from tesra.sdk.connection import Connection
from tesra.sdk.private.chunks import NodeCache
from tesra.sdk.private.device import DeviceKey, DeviceKeys
from tesra.sdk.private.door import PrivateDoor
from tesra.sdk.private.drive import PrivateTree
from tesra.sdk.private.keyring import Keyring, ShownAnOldState, State, fresh_private
from tesra.sdk.private.opening import check_password, opened, password_holder, password_key
from tesra.sdk.private.places import check_drive_name
from tesra.storage.keychain import (
    Holder,
    Keychain,
    NotAHolder,
    issue,
    new_holder,
    new_keychain,
    read_document,
)
from tesra.storage.pointers import end_message
from tesra.storage.recovery_kit import new_kit, read_kit, write_kit
from tesra.wire.private import NewPrivateDrive, PrivateDrive

_TRIES = 8

Rekeyed = tuple[Keychain, list[Holder]]


class WrongPassword(Forbidden):
    """This password does not open the drive."""


class DriveLocked(NotFound):
    """There is no such private drive on this device."""


class NameTaken(Conflict):
    """There is a private drive of this name on this device already."""


class NotTheLastKey(Conflict):
    """This is the device that you are at."""


@dataclass(frozen=True, slots=True)
class KnownDrive:
    """``name`` is None for one that this device can't open."""

    id: str
    name: str | None
    version: int
    holders: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class HolderShown:
    """Who can open a drive."""

    id: str
    kind: str
    label: str
    here: bool


class PrivateDrives:
    """The private drives of one user, from one device."""

    def __init__(self, connection: Connection, keys: DeviceKeys) -> None:
        self._connection = connection
        self._keys = keys
        self._caches: dict[str, NodeCache] = {}

    def tree(self, name: str) -> PrivateTree:
        """The files of a drive that is unlocked on this device."""
        ring = self._ring(name)
        return PrivateTree(ring, self._caches.setdefault(ring.key.drive, NodeCache()))

    def known(self) -> list[KnownDrive]:
        """All of the user's, the oldest first."""
        found = []
        here = {key.drive: key for key in self._keys.all()}
        for shown in self._connection.pages("/private", PrivateDrive):
            key = here.get(shown.id)
            document = read_document(bytes.fromhex(shown.document), drive=shown.id)
            found.append(
                KnownDrive(
                    id=shown.id,
                    name=key.name if key else None,
                    version=shown.head.version if shown.head else 0,
                    holders=len(document.holders),
                    created_at=shown.created_at,
                )
            )
        return found

    def create(self, name: str, password: str, keep_kit: Callable[[str], None]) -> DeviceKey:
        """A drive that the password, this device and the kit open.

        ``keep_kit`` gets the recovery kit's text first: a drive without a kit is never made.
        """
        plain = check_drive_name(name)
        check_password(password)
        if any(key.name == plain and key.url == self._url for key in self._keys.all()):
            raise NameTaken(f"There is a private drive '{plain}' on this device already.")
        drive, epoch = new_id("prv"), new_id("epo")
        chain, kit = new_keychain(drive, plain, epoch), new_kit(drive, plain)
        device, private = new_id("hld"), fresh_private()
        holders = [
            new_holder(device, "device", private, chain=chain),
            password_holder(chain, password),
            new_holder(new_id("hld"), "kit", kit.secret, chain=chain),
        ]
        chain = replace(chain, labels={device: _this_device()})
        document = issue(chain, holders, 1)
        keep_kit(write_kit(kit, datetime.now(UTC)))
        public = chain.signer.public.hex()
        key = DeviceKey(drive, plain, self._url, public, device, private.hex())
        self._keys.save(key)
        try:
            wanted = NewPrivateDrive(verify_key=public, epoch=epoch, document=document.hex())
            PrivateDoor(self._connection, drive).create(wanted)
        except Exception:
            self._keys.forget(drive)
            raise
        return key

    def unlock(self, name: str, password: str) -> DeviceKey:
        """Make this device one of the drive's; ``name`` may be its id. Raises ``WrongPassword``."""
        known = self._keys.find(self._url, name)
        for shown in self._connection.pages("/private", PrivateDrive):
            if known is not None and shown.id != known.drive:
                continue
            if name.startswith("prv_") and shown.id != name:
                continue
            document = read_document(bytes.fromhex(shown.document), drive=shown.id)
            private = password_key(document, password)
            if private is None:
                continue
            if name in {opened(document, private).name, shown.id}:
                return self._admit(shown.id, private)
        raise WrongPassword(
            f"No private drive '{name}' of yours opens with this password.",
            way_out="Mind capitals and the keyboard's language. With the recovery kit,"
            " `tesra drive recover --recovery-kit FILE` sets a new password.",
        )

    def lock(self, name: str) -> None:
        """Forget the drive's key on this device; its password or kit open it again."""
        key = self._key(name)
        with suppress(NotAHolder, NotFound, ShownAnOldState):  # then there is nothing to take off
            self._rekey(self._ring_of(key), lambda state: _without(state, key.device))
        self._keys.forget(key.drive)

    def recover(self, kit_text: str, password: str) -> DeviceKey:
        """Open the drive with its kit and set a new password; the kit stays good."""
        kit = read_kit(kit_text)
        check_password(password)
        self._admit(kit.drive, kit.secret)
        self.set_password(kit.drive, password)
        return self._key(kit.drive)

    def set_password(self, name: str, password: str) -> None:
        """The old password opens nothing that the server has from now on."""
        check_password(password)

        def rekeyed(state: State) -> Rekeyed:
            others = [one for one in state.document.holders if one.kind != "password"]
            return state.chain, [*others, password_holder(state.chain, password)]

        self._rekey(self._ring(name), rekeyed)

    def new_kit(self, name: str, keep_kit: Callable[[str], None]) -> None:
        """A new recovery kit; the old one opens nothing that the server has from now on."""
        ring = self._ring(name)
        kit = new_kit(ring.key.drive, ring.key.name)
        keep_kit(write_kit(kit, datetime.now(UTC)))

        def rekeyed(state: State) -> Rekeyed:
            others = [one for one in state.document.holders if one.kind != "kit"]
            fresh = new_holder(new_id("hld"), "kit", kit.secret, chain=state.chain)
            return state.chain, [*others, fresh]

        self._rekey(ring, rekeyed)

    def rotate(self, name: str) -> int:
        """A new epoch: what is put from now on has new keys. How many epochs there are."""
        ring = self._ring(name)
        state = self._rekey(ring, lambda now: (now.chain, list(now.document.holders)), rotate=True)
        return len(state.chain.epochs)

    def holders(self, name: str) -> list[HolderShown]:
        """Who can open the drive."""
        ring = self._ring(name)
        state = ring.state()
        words = {"password": "the password", "kit": "the recovery kit"}
        return [
            HolderShown(
                one.id,
                one.kind,
                words.get(one.kind) or state.chain.labels.get(one.id, ""),
                here=one.id == ring.key.device,
            )
            for one in state.document.holders
        ]

    def remove_device(self, name: str, holder: str) -> int:
        """Take a device off the drive and begin a new epoch, which it can't read."""
        ring = self._ring(name)
        if holder == ring.key.device:
            raise NotTheLastKey(way_out=f"`tesra drive lock {ring.key.name}` forgets it here.")
        found = ring.state().document.holder(holder)
        if found is None or found.kind != "device":
            raise NotFound(
                f"The drive has no device '{holder}'.",
                way_out=f"`tesra drive devices {ring.key.name}` lists them.",
            )
        state = self._rekey(ring, lambda now: _without(now, holder), rotate=True)
        return len(state.chain.epochs)

    def end(self, name: str) -> None:
        """The drive with all it holds is gone, for all its devices."""
        ring = self._ring(name)
        chain = ring.state().chain
        ring.door.end(chain.signer.sign(end_message(chain.drive)))
        self._keys.forget(chain.drive)

    def _admit(self, drive: str, private: bytes) -> DeviceKey:
        """Make this device a holder, by the private key of another one."""
        door, before = PrivateDoor(self._connection, drive), self._keys.find(self._url, drive)
        device, own = new_id("hld"), fresh_private()
        for _ in range(_TRIES):
            document = read_document(bytes.fromhex(door.show().document), drive=drive)
            chain = opened(document, private)
            fresh = new_holder(device, "device", own, chain=chain)
            others = [one for one in document.holders if not before or one.id != before.device]
            chain = replace(chain, labels={**chain.labels, device: _this_device()})
            try:
                door.put_keys(
                    document.number + 1, issue(chain, [*others, fresh], document.number + 1)
                )
            except Conflict as error:
                if error.code != "keys_moved":
                    raise
            else:
                public = chain.signer.public.hex()
                key = DeviceKey(drive, chain.name, self._url, public, device, own.hex())
                self._keys.save(key)
                return key
        raise Conflict("Others changed the drive's keys at the same moment.", way_out="Try again.")

    def _rekey(
        self, ring: Keyring, change: Callable[[State], Rekeyed], *, rotate: bool = False
    ) -> State:
        """Put a new key document on the one that is there now, until nobody was faster."""
        for _ in range(_TRIES):
            state = ring.state()
            chain, holders = change(state)
            epoch = new_id("epo") if rotate else None
            if epoch is not None:
                chain = chain.rotated(epoch, state.version + 1)
            kept = {one.id for one in holders}
            chain = replace(chain, labels={i: s for i, s in chain.labels.items() if i in kept})
            number = state.document.number + 1
            data = issue(chain, holders, number)
            try:
                ring.door.put_keys(number, data, epoch, state.version if epoch else None)
            except Conflict as error:
                if error.code not in {"keys_moved", "head_moved"}:
                    raise
            else:
                return replace(state, chain=chain)
        raise Conflict("Others changed the drive at the same moment.", way_out="Try again.")

    def _ring(self, name: str) -> Keyring:
        return self._ring_of(self._key(name))

    def _ring_of(self, key: DeviceKey) -> Keyring:
        return Keyring(self._keys, key, PrivateDoor(self._connection, key.drive))

    def _key(self, name: str) -> DeviceKey:
        key = self._keys.find(self._url, name)
        if key is None:
            raise DriveLocked(
                f"There is no private drive '{name}' on this device.",
                way_out=f"If it is yours, `tesra drive unlock {name}` opens it with its password;"
                f" `tesra drive create {name} --private` makes a new one.",
            )
        return key

    @property
    def _url(self) -> str:
        return self._connection.access.url


def _without(state: State, holder: str) -> Rekeyed:
    return state.chain, [one for one in state.document.holders if one.id != holder]


def _this_device() -> str:
    return f"{socket.gethostname()}, since {datetime.now(UTC):%Y-%m-%d}"
