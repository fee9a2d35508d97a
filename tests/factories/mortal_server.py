"""A server process that is killed at a given step, beside a network that looks on."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from factories.peer_network import PeerNetwork, peer_network, wait_until


@dataclass
class MortalServer:
    """On a port of its own, with the home and the database of ``network``."""

    network: PeerNetwork
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        home = self.network.home.root
        command = [sys.executable, "-m", "fakes.mortal_server", str(home)]
        with (self.network.home.logs / "mortal.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, self.network.database_url, str(self.port)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                stdout=log,
                stderr=log,
            )
        wait_until(self.answers, "the server answers")

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "the server ended"
        try:
            return httpx.get(f"{self.url}/api/v1/health", timeout=5).is_success
        except httpx.TransportError:
            return False

    def deaths(self) -> int:
        deaths = self.network.home.root / "deaths"
        return deaths.stat().st_size if deaths.exists() else 0

    def die_after(self, boundary: str) -> None:
        """Kill itself there, the next time."""
        draft = self.network.home.root / "die.new"
        draft.write_text(boundary)
        draft.rename(self.network.home.root / "die")

    def wait_dead(self, deaths: int) -> None:
        """It has died so often, and is there again."""
        wait_until(lambda: self.deaths() == deaths, "the server has killed itself")
        wait_until(self.answers, "the server is there again")

    def kill(self, pid: int) -> None:
        """This one, if it lives still; it is started again."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def wait_answers(self) -> None:
        wait_until(self.answers, "the server answers")

    def stop(self) -> None:
        """First who would start it again."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int((self.network.home.root / "mortal.pid").read_text()), signal.SIGKILL)


@contextmanager
def mortal_network(folder: Path, database_url: str, *, peers: int) -> Iterator[MortalServer]:
    """All peers and clients speak to a server that can be killed; another one looks on."""
    with peer_network(folder, database_url, peers=0) as network:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        server = MortalServer(network, port)
        try:
            server.start()
            network.url = server.url
            for number in range(1, peers + 1):
                network.start_peer(number)
            wait_until(lambda: network.enrolled() == peers, "all peers are in")
            yield server
        finally:
            server.stop()
