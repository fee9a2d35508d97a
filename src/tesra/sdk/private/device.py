"""What this device knows of private drives: a private key for each, in a file of its own (0600).

It also pins what it saw last, so that a server that shows an older state is found out.
"""

import json
import os
import stat
import tempfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from tesra.crypto.keys import sync_folder
from tesra.kit.errors import Conflict, Invalid

_FOLDER = "private-drives"


class DeviceKeyRefused(Invalid):
    """The key of a private drive on this device can't be used."""


class NameTwice(Conflict):
    """Two of your private drives have this name."""


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """One private drive on this device; ``device`` is its holder's id. Bytes in hex."""

    drive: str
    name: str
    url: str
    verify_key: str
    device: str
    private: str = field(repr=False)
    number: int = 0  # of the newest key document seen
    version: int = 0  # of the newest head seen
    link: str = ""


class DeviceKeys:
    """The folder of these files."""

    def __init__(self, config_folder: Path) -> None:
        self._folder = config_folder / _FOLDER

    def all(self) -> list[DeviceKey]:
        """Those of all networks, the oldest first."""
        return [self._read(path) for path in sorted(self._folder.glob("prv_*.json"))]

    def find(self, url: str, name_or_id: str) -> DeviceKey | None:
        """By its id, or by its name; raises ``NameTwice``.

        One that was made at this address goes before others: a network's address may change.
        """
        every = self.all()
        found = [key for key in every if key.drive == name_or_id]
        found = found or [key for key in every if key.name == name_or_id]
        found = [key for key in found if key.url == url] or found
        if len(found) > 1:
            ids = " and ".join(key.drive for key in found)
            raise NameTwice(
                f"Two of your private drives are called '{name_or_id}'.",
                way_out=f"Use their ids instead: {ids}.",
            )
        return found[0] if found else None

    def save(self, key: DeviceKey) -> None:
        """On disk, readable by its owner alone, when this returns."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, name = tempfile.mkstemp(dir=self._folder, prefix=".key-")  # made with 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(key), file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._path(key.drive))
            sync_folder(self._folder)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def forget(self, drive: str) -> None:
        self._path(drive).unlink(missing_ok=True)

    def _path(self, drive: str) -> Path:
        return self._folder / f"{drive}.json"

    def _read(self, path: Path) -> DeviceKey:
        refused = DeviceKeyRefused(
            f"The key file {path} is damaged.",
            way_out="Remove it, then `tesra drive unlock NAME` with the drive's password.",
        )
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, encoding="utf-8") as file:
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                    raise DeviceKeyRefused(
                        f"The key file {path} can be read by others.",
                        way_out="`chmod 600` it, if they did not; else `tesra drive rotate`.",
                    )
                stored = json.load(file)
            known = {one.name for one in fields(DeviceKey)}
            key = DeviceKey(**{name: stored[name] for name in known})
            if len(bytes.fromhex(key.private)) != 32 or len(bytes.fromhex(key.verify_key)) != 32:
                raise refused
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise refused from error
        return key
