"""kill -9 of the server at any moment of an upload: it goes on at the offset that was told, and its
file is in the drive once."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from factories.clusters import Cluster
from factories.mortal_server import MortalServer, mortal_network
from factories.peer_network import wait_until
from factories.tus import TUS, metadata
from fakes.mortal_server import UPLOAD_BOUNDARIES

pytestmark = pytest.mark.postgres

PART_BYTES = 400_000
PARTS = 3


@pytest.fixture(scope="module")
def server(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalServer]:
    url = cluster.create()
    with mortal_network(tmp_path_factory.mktemp("uploads"), url, peers=2) as running:
        yield running
    cluster.drop(url)


@pytest.fixture(scope="module")
def http(server: MortalServer) -> Iterator[httpx.Client]:
    client = server.network.register("ann")
    yield client
    client.close()


def begin(http: httpx.Client, path: str, length: int) -> str:
    headers = {**TUS, "Upload-Length": str(length), "Upload-Metadata": metadata(path=path)}
    answer = http.post("/api/v1/uploads", headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.headers["location"])


def patch(http: httpx.Client, address: str, offset: int, data: bytes) -> int:
    headers = {
        **TUS,
        "Upload-Offset": str(offset),
        "Content-Type": "application/offset+octet-stream",
    }
    answer = http.patch(address, headers=headers, content=data)
    assert answer.status_code == 204, answer.text
    return int(answer.headers["upload-offset"])


def offset_of(http: httpx.Client, address: str) -> int:
    answer = http.head(address, headers=TUS)
    assert answer.status_code == 200, answer.status_code
    return int(answer.headers["upload-offset"])


def finish(http: httpx.Client, address: str, data: bytes) -> None:
    """As tus clients do: ask, go on, and again when the connection breaks."""
    deadline = time.monotonic() + 90
    told = 0
    while told < len(data):
        assert time.monotonic() < deadline
        try:
            now = offset_of(http, address)
            assert now >= told, "an offset that was told has gone back"
            told = now
            if told < len(data):
                told = patch(http, address, told, data[told : told + PART_BYTES])
        except httpx.TransportError:
            time.sleep(0.05)


def check(http: httpx.Client, address: str, path: str, data: bytes, versions: int) -> None:
    def landed() -> bool:
        return str(http.get(address).json()["state"]) == "landed"

    wait_until(landed, "the upload has landed")
    assert http.get("/api/v1/drive/content", params={"path": path}).content == data
    assert http.get("/api/v1/drive/head").json()["version"] == versions + 1


@pytest.mark.parametrize("boundary", UPLOAD_BOUNDARIES)
def test_an_upload_goes_on_after_the_server_was_killed(
    server: MortalServer, http: httpx.Client, boundary: str
) -> None:
    path, data = f"/{boundary}", os.urandom(PARTS * PART_BYTES)
    versions = http.get("/api/v1/drive/head").json()["version"]
    address = begin(http, path, len(data))
    deaths = server.deaths()
    server.die_after(boundary)
    sending = threading.Thread(target=finish, args=(http, address, data))
    sending.start()
    server.wait_dead(deaths + 1)
    sending.join(120)
    assert not sending.is_alive()
    check(http, address, path, data, versions)
    server.network.do(server.network.services.uploads.look_after())
    assert list(server.network.home.uploads.glob("upl_*")) == []


def test_what_was_on_its_way_when_the_server_was_killed_is_sent_from_where_it_stood(
    server: MortalServer, http: httpx.Client, tmp_path: Path
) -> None:
    path, data = "/in the middle", os.urandom(30_000_000)
    versions = http.get("/api/v1/drive/head").json()["version"]
    address = begin(http, path, len(data))
    spooled = server.network.home.uploads / address.rsplit("/", 1)[1]
    half = threading.Event()

    def slowly() -> Iterator[bytes]:
        for start in range(0, len(data), 2**20):
            if start > len(data) // 2:
                half.set()
                wait_until(lambda: server.deaths() > deaths, "the server is dead")
            yield data[start : start + 2**20]

    deaths = server.deaths()

    def send() -> None:
        headers = {
            **TUS,
            "Upload-Offset": "0",
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(len(data)),
        }
        with pytest.raises(httpx.TransportError):
            http.patch(address, headers=headers, content=slowly())

    sending = threading.Thread(target=send)
    sending.start()
    assert half.wait(60)
    wait_until(lambda: spooled.stat().st_size > 10_000_000, "bytes are on disk")
    acknowledged = offset_of(http, address)
    os.kill(int((server.network.home.root / "mortal.pid").read_text()), signal.SIGKILL)
    sending.join(60)
    server.wait_dead(deaths + 1)
    assert offset_of(http, address) >= acknowledged > 10_000_000
    finish(http, address, data)
    check(http, address, path, data, versions)
