"""A project of a gigabyte: brought, brought again unchanged (nothing moves), and fetched back."""

import filecmp
import random
import shutil
import tempfile
import time
from pathlib import Path

from bench._harness import MIB, BenchFailed, Network, network, report, run_bench
from bench.logs import PeakMemory

from tesra.sdk.client import Client
from tesra.sdk.transfer import HttpDoor, fetch_snapshot

IMPORT = "import_mb_per_s"
AGAIN = "reimport_moved_bytes"
FETCH = "fetch_mb_per_s"
SERVER_MB = "server_rss_mb_while_moving"
IMPORT_TARGET = FETCH_TARGET = 50.0
SERVER_TARGET_MB = 300.0
LARGE = [400, 300, 200]  # files of so many MiB
SMALL = 10_000  # files of 10 KiB
SMALL_BYTES = 10 * 1024
SIZE_MB = sum(LARGE) + SMALL * SMALL_BYTES / MIB


def measure() -> None:
    folder = Path(tempfile.mkdtemp(prefix="tesra-bench-project-"))
    try:
        fill(folder / "data")
        with network(devices=1) as net:
            peak = PeakMemory(net.pid("server"))
            move(net, folder)
            report(SERVER_MB, round(peak.stop(), 1), target=SERVER_TARGET_MB, versus={})
    finally:
        shutil.rmtree(folder)


def move(net: Network, folder: Path) -> None:
    source = str(folder / "data")
    first_s, first = timed(net, "import", source, "--name", "large")
    again_s, again = timed(net, "import", source, "--name", "large")
    versus = {"seconds": round(first_s, 2), "project_mb": round(SIZE_MB), "moved": first}
    report(IMPORT, round(SIZE_MB / first_s, 1), target=IMPORT_TARGET, at_least=True, versus=versus)
    report(AGAIN, again, target=0, versus={"seconds": round(again_s, 2)})
    back = folder / "back"
    began = time.monotonic()
    with Client(net.environ["TESRA_URL"], net.environ["TESRA_TOKEN"]) as client:
        door = HttpDoor(client.connection.http)
        fetch_snapshot(door, client.project("large").snapshot, back)
    fetch_s = time.monotonic() - began
    compare(folder / "data", back)
    report(
        FETCH,
        round(SIZE_MB / fetch_s, 1),
        target=FETCH_TARGET,
        at_least=True,
        versus={"seconds": round(fetch_s, 2)},
    )


def timed(net: Network, *arguments: str) -> tuple[float, int]:
    """Seconds, and the bytes that were sent."""
    began = time.monotonic()
    answer = net.tesra(*arguments)
    return time.monotonic() - began, int(answer["moved_bytes"])


def compare(source: Path, back: Path) -> None:
    """What came back is what was brought."""
    names = [str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()]
    _, wrong, missing = filecmp.cmpfiles(source, back, names, shallow=False)
    if wrong or missing:
        raise BenchFailed(f"{len(wrong)} files differ, {len(missing)} are missing")


def fill(folder: Path) -> None:
    """Bytes that no compression makes smaller, the same each time."""
    source = random.Random(7)
    folder.mkdir()
    for number, size in enumerate(LARGE):
        with (folder / f"large-{number}.bin").open("wb") as file:
            for _ in range(size):
                file.write(source.randbytes(MIB))
    for number in range(SMALL):
        place = folder / f"part-{number % 50}"
        place.mkdir(exist_ok=True)
        (place / f"{number}.bin").write_bytes(source.randbytes(SMALL_BYTES))


if __name__ == "__main__":
    run_bench(measure, IMPORT, IMPORT_TARGET)
