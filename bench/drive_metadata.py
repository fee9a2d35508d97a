"""A drive of 1,000,000 files: how long the server takes to list a folder of it, over HTTP.

Two shapes: 1,000 folders of 1,000 files, each folder asked for once so that no cache of ours
helps; and all files in one folder, asked for pages from its middle. Content is small and lies in
the nodes, so that listing reads as much as it ever does.
"""

import statistics
import time
from collections.abc import Iterator

import httpx
from bench._harness import BenchFailed, report, run_bench
from bench.dispatch import Server, ok, server, signed_in

from tesra.storage.format import EpochKeys, seal_chunk
from tesra.storage.packing import PackBuilder
from tesra.storage.tree import Entry, File, Folder, NodeWriter
from tesra.web.pages import encode_cursor

FIGURE = "drive_listing_of_a_million_files_ms"
TARGET_MS = 50.0
FILES = 1_000_000
FOLDERS = 1_000
ASKED = 60
TIMEOUT_S = 900.0


class Sender:
    """Chunks go out in packs, as a client sends them."""

    def __init__(self, user: httpx.Client) -> None:
        self._user = user
        grant = ok(user.post("/api/v1/drive/uploads"))
        self.epoch = grant["epoch"]
        ids = bytes.fromhex(grant["id_key"]), bytes.fromhex(grant["data_key"])
        self._keys = EpochKeys(self.epoch, *ids)
        self._pack, self._sent = PackBuilder(), set[bytes]()

    def keep(self, plain: bytes) -> bytes:
        chunk = self._keys.chunk_id(plain)
        if chunk not in self._sent:
            self._sent.add(chunk)
            self._pack.add(seal_chunk(self._keys.chunk_key(chunk), chunk, plain))
            if self._pack.full:
                self.flush()
        return chunk

    def flush(self) -> None:
        pack = self._pack.finish()
        path = f"/api/v1/drive/packs/{pack.id}"
        ok(self._user.put(path, params={"epoch": self.epoch}, content=b"".join(pack.pieces)))
        self._pack = PackBuilder()

    def folder(self, entries: Iterator[Entry]) -> bytes:
        writer = NodeWriter()
        for entry in entries:
            for plain in writer.add(entry):
                writer.stored(self.keep(plain))
        for plain in writer.finish():
            writer.stored(self.keep(plain))
        return writer.tree_id


def measure() -> None:
    with server() as running:
        for shape, (folders, each) in {
            "1,000 folders of 1,000 files": (FOLDERS, FILES // FOLDERS),
            "one folder of 1,000,000 files": (1, FILES),
        }.items():
            user = register(running, f"bench-{folders}")
            began = time.monotonic()
            fill(user, folders, each)
            made_s = time.monotonic() - began
            took = list(listings(user, folders, each))
            versus = {
                "shape": shape,
                "slowest_ms": round(max(took), 1),
                "asked": len(took),
                "page": 200,
                "drive_made_in_s": round(made_s, 1),
            }
            report(FIGURE, round(statistics.median(took), 1), target=TARGET_MS, versus=versus)


def register(running: Server, name: str) -> httpx.Client:
    body = {"name": name, "password": "a long enough password"}
    session = ok(httpx.post(f"{running.url}/api/v1/register", json=body, timeout=60))
    user = signed_in(running.url, session["token"])
    user.timeout = httpx.Timeout(TIMEOUT_S)
    return user


def fill(user: httpx.Client, folders: int, each: int) -> None:
    sender = Sender(user)

    def files(folder: int) -> Iterator[Entry]:
        for number in range(each):
            content = b"%08d" % (folder * each + number)
            yield File(f"image-{number:07}.json", executable=False, size=8, inline=content)

    root = sender.folder(
        Folder(f"part-{number:04}", sender.folder(files(number))) for number in range(folders)
    )
    sender.flush()
    tree = {
        "epoch": sender.epoch,
        "root": root.hex(),
        "file_count": folders * each,
        "size_bytes": 8 * folders * each,
    }
    change = {"op": "put", "path": "/set", "tree": tree}
    ok(user.post("/api/v1/drive/changes", json={"changes": [change]}))


def listings(user: httpx.Client, folders: int, each: int) -> Iterator[float]:
    """Milliseconds of each page, after one that warms up connections."""
    for turn in range(ASKED + 1):
        folder, last = turn * folders // (ASKED + 1), turn * each // (ASKED + 1)
        query = {"path": f"/set/part-{folder:04}", "limit": 200}
        if folders == 1:
            query["cursor"] = encode_cursor(f"image-{last:07}.json")
        began = time.monotonic()
        found = ok(user.get("/api/v1/drive/tree", params=query))["items"]
        if len(found) != 200:
            raise BenchFailed(f"{len(found)} entries came")
        if turn:
            yield (time.monotonic() - began) * 1000


if __name__ == "__main__":
    run_bench(measure, FIGURE, TARGET_MS)
