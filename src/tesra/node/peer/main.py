"""A storage peer in the foreground, until it is told to end."""

import asyncio
import contextlib
import fcntl
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from tesra.kit.errors import Conflict
from tesra.kit.sizes import show_size
from tesra.node.peer.direct import DirectDoor
from tesra.node.peer.folder import PackFolder
from tesra.node.peer.link import PeerLink
from tesra.node.peer.peer import PeerConfig, StoragePeer


class PeerRuns(Conflict):
    """A storage peer is already running in this folder."""


def run_peer(
    folder: Path,
    config: PeerConfig,
    *,
    capacity_bytes: int,
    server_url: str,
    token: str,
    identity: Path | None = None,
) -> None:
    """Serve packs from ``folder`` until SIGTERM or SIGINT. Raises ``PeerRuns``."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    packs = PackFolder(folder, capacity_bytes, identity=identity)
    with _only_one(folder):
        if lacking := packs.lacks_bytes():
            offered = show_size(capacity_bytes)
            logging.warning(
                "%s are offered, and the disk of %s has %s less: it takes what fits",
                *(offered, folder, show_size(lacking)),
            )
        asyncio.run(_run(packs, server_url, token, config))


async def _run(packs: PackFolder, server_url: str, token: str, config: PeerConfig) -> None:
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    async with PeerLink(server_url, token) as link:
        direct = DirectDoor(server_url, token)
        working = asyncio.create_task(StoragePeer(packs, link, direct, config).run())
        told = asyncio.create_task(ending.wait())
        await asyncio.wait({working, told}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if working.done():
            working.result()  # never ends but by a failure: say it
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


def machine_name() -> str:
    """What peers of this machine have in common."""
    try:
        return Path("/etc/machine-id").read_text().strip() or socket.gethostname()
    except OSError:
        return socket.gethostname()


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock ends with the process."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PeerRuns(way_out="`tesra status` shows it; `tesra down` ends it.") from error
        yield
