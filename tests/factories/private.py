"""Devices of people with private drives, on a real server over HTTP."""

import copy
import secrets
from pathlib import Path

import tesra
from tesra.sdk.client import Client
from tesra.sdk.private.device import DeviceKeys
from tesra.sdk.private.owner import PrivateDrives

PASSWORD = "correct horse battery 电池"
ACCOUNT = "a long enough password"


class Person:
    """One user of a server, at as many devices as wanted; each has a folder of its own."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._folder = folder
        self.kits: list[str] = []
        self._client = tesra.Client(url, "none")
        self.token = self._client.register(f"ann-{secrets.token_hex(6)}", ACCOUNT).token

    def device(self, name: str) -> Client:
        """A client at this device: a new one knows no keys."""
        client = copy.copy(self._client)  # one connection: to open one takes longer than its use
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        client.private_drives = PrivateDrives(client.connection, DeviceKeys(folder))
        return client

    def create(self, client: Client, name: str = "diary") -> None:
        client.private_drives.create(name, PASSWORD, self.kits.append)


def put(client: Client, folder: Path, path: str, content: bytes) -> None:
    """A file with this content at the path."""
    file = folder / secrets.token_hex(6) / path.rsplit("/", 1)[-1]
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    client.drive_put(file, path)


def read(client: Client, path: str, **options: int) -> bytes:
    return b"".join(client.drive_read(path, **options))


def names(client: Client, path: str) -> list[str]:
    return [entry.name for entry in client.drive_list(path)]
