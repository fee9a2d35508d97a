"""Somebody whose file is on three peers, and what happens to it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from factories.peer_network import PeerNetwork
from tesra.sdk.client import Client

SIZE = 1_500_000


class Owner:
    """A user with one file in the drive, on three peers."""

    def __init__(self, network: PeerNetwork, name: str, folder: Path, *, size: int = SIZE) -> None:
        self.network = network
        http = network.register(name)
        token = http.headers["Authorization"].removeprefix("Bearer ")
        http.close()
        self.client = Client(network.url, token)
        self.data = os.urandom(size)
        source = folder / "a.bin"
        source.write_bytes(self.data)
        before = set(network.packs(1))
        self.client.drive_put(source, "/a.bin")
        self.packs = sorted(set(network.packs(1)) - before)
        self.big = max(self.packs, key=lambda pack: network.packs(1)[pack].stat().st_size)
        self.wait_whole()

    def wait_whole(self, *peers: int) -> None:
        """Three copies of each pack, at these peers and by the server's books."""
        network, holders = self.network, peers or (1, 2, 3)
        network.repair_until(
            lambda: (
                all(set(self.packs) <= set(network.packs(n)) for n in holders)
                and self.copies() == len(holders)
            ),
            "three copies of all",
        )

    def copies(self) -> int:
        return self.client.drive_health("/a.bin").copies

    def kinds(self) -> list[str]:
        return [alarm.kind for alarm in self.client.alarms()]

    def read(self) -> bytes:
        return b"".join(self.client.drive_read("/a.bin"))


@contextmanager
def owner_of(network: PeerNetwork, name: str, folder: Path, *, size: int = SIZE) -> Iterator[Owner]:
    owner = Owner(network, name, folder, size=size)
    try:
        yield owner
    finally:
        owner.client.close()


def flip(path: Path, at: int = 500_000) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
