"""A storage peer beside a site controller: a process of its own that lives as long as the site."""

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tesra.app.storage import TESRA
from tesra.kit.errors import Conflict
from tesra.kit.settings import Home
from tesra.kit.sizes import parse_disk

AGAIN_S = 5.0  # a peer that ended by itself is started again after this time
END_S = 10.0
_NAME_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Place:
    """Where others reach the disk, and the site that it stands at, if that is said."""

    host: str = "127.0.0.1"
    site: str = ""


HERE = Place()


class HomeHasPeers(Conflict):
    """The storage peers of this home are started by `tesra up`."""


@contextmanager
def disk_beside(
    home: Home,
    server_url: str,
    token_file: Path,
    size: str,
    *,
    name: str,
    place: Place = HERE,
) -> Iterator[None]:
    """Within the block a peer keeps packs in ``<home>/peer-1``; raises ``SizeInvalid``."""
    parse_disk(size)
    if home.config.exists():
        raise HomeHasPeers(way_out="Give it more: `tesra up --peers N`; or take another --home.")
    folder = home.peer(1)
    command = [*TESRA, "node", "peer", "--server", server_url, "--token-file", str(token_file)]
    command += ["--folder", str(folder), "--disk", size, "--address", place.host]
    command += ["--name", f"{name}@{socket.gethostname()}"[:_NAME_CHARACTERS]]
    command += ["--site", place.site] if place.site else []
    ending = threading.Event()
    watch = threading.Thread(target=_keep_running, args=(command, ending), daemon=True)
    watch.start()
    try:
        yield
    finally:
        ending.set()
        watch.join(2 * END_S)


def _keep_running(command: list[str], ending: threading.Event) -> None:
    while not ending.is_set():
        peer = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        while peer.poll() is None and not ending.wait(0.2):
            pass
        _end(peer)
        ending.wait(AGAIN_S)


def _end(peer: subprocess.Popen[bytes]) -> None:
    peer.terminate()
    try:
        peer.wait(END_S)
    except subprocess.TimeoutExpired:
        peer.kill()
        peer.wait()
