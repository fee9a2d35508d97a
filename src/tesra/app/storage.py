"""The storage peers of ``tesra up``: the first is the gateway, whose folder the server writes to."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from tesra.db.private_files import read_or_make_secret
from tesra.kit.settings import Home

PEERS = "/api/v1/peers"
ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """A storage peer as the server knows it."""

    name: str
    state: str
    machine: str
    copies: int
    used_bytes: int


def peer_names(peers: int) -> list[str]:
    """What the processes are called, as their folders are."""
    return [f"peer-{number}" for number in range(1, peers + 1)]


def peer_command(tesra: Sequence[str], home: Home, url: str, number: int, peers: int) -> list[str]:
    """How to start a peer: it may take its share of the disk."""
    token_file = home.keys / "peer.token"
    read_or_make_secret(token_file)
    folder = home.peer(number)
    folder.mkdir(mode=0o700, exist_ok=True)
    disk = os.statvfs(home.root)
    share = disk.f_blocks * disk.f_frsize // peers
    command = [*tesra, "node", "peer", "--server", url, "--token-file", str(token_file)]
    command += ["--folder", str(folder), "--disk", str(share), "--name", f"peer-{number}"]
    command += ["--identity", str(home.peer_identity(number))]
    return [*command, "--gateway"] if number == 1 else command


def peers_on_offer(url: str, token: str) -> list[PeerStatus]:
    """All peers that ever joined, by name; none while no server answers."""
    with httpx.Client(base_url=url, timeout=ANSWER_S, trust_env=False) as client:
        return ask_peers(client, token)


def ask_peers(client: httpx.Client, token: str) -> list[PeerStatus]:
    try:
        answer = client.get(PEERS, headers={"Authorization": f"Bearer {token}"})
    except httpx.TransportError:
        return []
    if answer.status_code != httpx.codes.OK:
        return []
    kept = PeerStatus.__slots__
    return [PeerStatus(**{key: row[key] for key in kept}) for row in answer.json()["items"]]


def first_missing(client: httpx.Client, token: str, peers: int) -> str | None:
    """The first of ``tesra up``'s own peers that has not joined; None when all have."""
    there = {peer.name for peer in ask_peers(client, token) if peer.state != "offline"}
    return next((name for name in peer_names(peers) if name not in there), None)


TESRA = (sys.executable, "-m", "tesra.app.main")
