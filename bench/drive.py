"""The drive against restic, borg, tahoe-lafs and cp: the same data, one after the other, in one run.

A put of the drive's is with two holders on disk when it ends, where the others have one copy.
Before each step the data is read once, the disk's backlog written out and the network at rest (it
has made its third copies), so that all begin alike. Nothing is deleted between them: ext4 passes
over the places of files that are just deleted, one by one, at the cost of whoever makes files
next. The speed of a machine varies, so what counts is the median of the ratios of each round.
TESRA_BENCH_ROUNDS: how many (3); TESRA_BENCH_GIB: how much passes while memory is watched (2).
"""

import os
import random
import resource
import secrets
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from bench._harness import MIB, BenchFailed, Network, network, processes_of, report, run_bench
from bench._rivals import Borg, Copying, Restic, Rival, tahoe_grid, there
from bench._swarms import SlowLine, make_packs, swarm_peers
from bench.project import compare

ROUNDS = int(os.environ.get("TESRA_BENCH_ROUNDS", "3"))
PASSING_GIB = float(os.environ.get("TESRA_BENCH_GIB", "2"))
ONLY = os.environ.get("TESRA_BENCH_PARTS", "large small tahoe again push peers memory").split()
LARGE_MIB, TAHOE_MIB, SMALL, SMALL_BYTES = 1024, 256, 20_000, 10_000
UPLINK = 20e6
MEMORY_MB = 300.0
Seconds = dict[str, dict[str, float]]  # what → who → seconds
SIZES = {"large": "1gib", "small": "20k_files", "tahoe": "256mib"}


def measure() -> None:
    folder = Path(tempfile.mkdtemp(prefix="tesra-bench-drive-"))
    try:
        with network(devices=1, settings={"TESRA_QUOTA_BYTES": str(64 * 2**30)}) as net:
            for name, part in PARTS.items():
                if name in ONLY:
                    place = folder / name
                    place.mkdir()
                    part(net, place)
                    shutil.rmtree(place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def against(name: str, net: Network, folder: Path) -> None:
    """Put and get, with everybody who can."""
    source = folder / "source"
    make_small(source) if name == "small" else make_large(
        source / "large.bin", LARGE_MIB if name == "large" else TAHOE_MIB
    )
    taken: dict[str, Any] = {"put": {}, "get": {}, "cpu_put": {}, "cpu_get": {}}
    for number in range(ROUNDS):
        place = folder / f"round-{number}"
        place.mkdir()
        if name == "tahoe":
            try:
                with tahoe_grid(place) as tahoe:
                    one_rival(net, tahoe, source, place, taken)
            except (BenchFailed, OSError) as error:
                taken["skipped"] = {"tahoe": str(error)}
        else:
            for kind in (Copying, Restic, Borg):
                if there(kind.name):
                    (place / kind.name).mkdir()
                    one_rival(net, kind(place / kind.name), source, place, taken)
                else:
                    taken["skipped"] = {**taken.get("skipped", {}), kind.name: "not installed"}
        one_rival(net, Drive(fresh_user(net)), source, place, taken)
    say(SIZES[name], taken)


class Drive:
    """The network's drive by its command line."""

    name = "tesra"

    def __init__(self, net: Network) -> None:
        self.net = net

    def put(self, source: Path) -> None:
        self.net.tesra("drive", "put", str(source), "xingpan:/bench")

    def get(self, dest: Path) -> None:
        self.net.tesra("drive", "get", "xingpan:/bench", str(dest))


def one_rival(net: Network, rival: Rival, source: Path, place: Path, taken: dict[str, Any]) -> None:
    """One put and one get, timed; what came back is compared."""
    network_of = rival.net if isinstance(rival, Drive) else None
    dest = place / f"back-{rival.name}"
    for verb, act in (("put", lambda: rival.put(source)), ("get", lambda: rival.get(dest))):
        settle(source)
        still(net)
        cpu = cpu_seconds(network_of)
        began = time.monotonic()
        act()
        seconds = time.monotonic() - began
        taken[verb].setdefault(rival.name, []).append(round(seconds, 2))
        if rival.name != "tahoe":
            used = round(cpu_seconds(network_of) - cpu, 1)
            taken[f"cpu_{verb}"].setdefault(rival.name, []).append(used)
    if rival.name != "tahoe":
        compare(source, dest)


def say(size: str, taken: dict[str, Any]) -> None:
    """The ratios that have to hold: each of one round's times, as the machine's speed varies."""
    targets = {"restic": {"put": 1.0, "get": 1.2}, "tahoe": {"put": 3.0, "get": 5.0}}
    if size == SIZES["small"]:
        targets["restic"] = {"put": 1.0, "get": 1.0}
    other = "tahoe" if size == SIZES["tahoe"] else "restic"
    for verb in ("put", "get"):
        seconds = taken[verb]
        pairs = zip(seconds.get(other, ()), seconds["tesra"], strict=False)
        ratios = [theirs / ours for theirs, ours in pairs]
        ratio = round(statistics.median(ratios), 2) if ratios else None
        versus = {"seconds": seconds, "cpu_seconds": taken[f"cpu_{verb}"]}
        versus |= {"skipped": taken["skipped"]} if "skipped" in taken else {}
        target = targets[other][verb]
        figure = f"drive_{verb}_{size}_speed_over_{other}"
        report(figure, ratio, target=target, at_least=True, versus=versus)


def again(net: Network, folder: Path) -> None:
    """One in a hundred bytes changed: how many are moved."""
    file = folder / "large.bin"
    make_large(file, LARGE_MIB)
    user = fresh_user(net)
    user.tesra("drive", "put", str(file), "xingpan:/large.bin")
    before = used_bytes(user)
    stretch = LARGE_MIB * MIB // 1000
    with file.open("r+b") as target:
        for tenth in range(10):
            target.seek((tenth * LARGE_MIB // 10 + 37) * MIB)
            target.write(os.urandom(stretch))
    settle(folder)
    began = time.monotonic()
    user.tesra("drive", "put", str(file), "xingpan:/large.bin")
    seconds = round(time.monotonic() - began, 2)
    moved = (used_bytes(user) - before) / (LARGE_MIB * MIB)
    report("drive_reput_moved_share", round(moved, 4), target=0.05, versus={"seconds": seconds})


def push(net: Network, folder: Path) -> None:
    """What a put over a slow line sends, and what a source sends for six readers."""
    file = folder / "large.bin"
    size = 128 * MIB
    make_large(file, size // MIB)
    url = urlsplit(net.environ["TESRA_URL"])
    line = SlowLine(str(url.hostname), int(url.port or 80), UPLINK)
    user = fresh_user(net)
    user = replace(user, environ=user.environ | {"TESRA_URL": f"http://127.0.0.1:{line.port}"})
    began = time.monotonic()
    user.tesra("drive", "put", str(file), "xingpan:/large.bin")
    seconds = round(time.monotonic() - began, 2)
    line.close()
    uploads = round(line.sent_bytes / size, 3)
    versus = {"seconds": seconds, "line_s": round(size / UPLINK, 2)}
    report("drive_push_to_3_uploads", uploads, target=1.1, versus=versus)
    with swarm_peers(folder, ["source", *[f"reader-{i}" for i in range(6)]]) as peers:
        source, *readers = peers
        trees = make_packs(source.folder, [size])
        source.call("serve", trees)
        source.call("limit", int(UPLINK))
        began = time.monotonic()
        for reader, before in zip(readers, peers, strict=False):
            reader.ask("fetch", trees, [before.endpoint])
        for reader in readers:
            reader.answer()
        seconds = round(time.monotonic() - began, 2)
        uploads = round(source.call("sent") / size, 3)
    versus = {"seconds": seconds, "line_s": round(size / UPLINK, 2)}
    report("drive_fan_out_to_6_uploads", uploads, target=1.2, versus=versus)


def from_peers(net: Network, folder: Path) -> None:  # noqa: ARG001 - peers of its own
    """A reader that has three peers to fetch from, against one that has one."""
    taken: dict[int, float] = {}
    with swarm_peers(folder, ["a", "b", "c", "r1", "r3", "s1", "s3"]) as peers:
        holders, readers = peers[:3], peers[3:]
        trees = make_packs(holders[0].folder, [16 * MIB] * 16)
        for other in holders[1:]:
            shutil.copytree(holders[0].folder, other.folder, dirs_exist_ok=True)
        for holder in holders:
            holder.call("serve", trees)
        for reader, count in zip(readers, (1, 3, 1, 3), strict=True):
            os.sync()
            began = time.monotonic()
            reader.call("fetch", trees, [holder.endpoint for holder in holders[:count]])
            seconds = time.monotonic() - began
            taken[count] = round(min(seconds, taken.get(count, seconds)), 2)
    versus = {"seconds_from_one": taken[1], "seconds_from_three": taken[3], "mib": 256}
    ratio = round(taken[1] / taken[3], 2)
    report("drive_get_from_3_over_1", ratio, target=0.9, at_least=True, versus=versus)


def memory(net: Network, folder: Path) -> None:
    """The largest that server and peers get while much passes."""
    user, share = fresh_user(net), min(PASSING_GIB, 2.0)
    file, left = folder / "large.bin", PASSING_GIB
    names = ["server", "peer-1", "peer-2", "peer-3"]
    watch = Watch({name: net.pid(name) for name in names})
    began = time.monotonic()
    while left > 0:
        make_large(file, int(share * 1024), seed=left)
        user.tesra("drive", "put", str(file), "xingpan:/large.bin")
        file.unlink()
        user.tesra("drive", "get", "xingpan:/large.bin", str(folder))
        left -= share
    peaks = watch.stop()
    versus = {"gib": PASSING_GIB, "seconds": round(time.monotonic() - began), "peaks": peaks}
    report("drive_server_rss_mb", peaks["server"], target=MEMORY_MB, versus=versus)
    most = max(peaks[name] for name in names[1:])
    report("drive_peer_rss_mb", most, target=MEMORY_MB, versus=versus)


class Watch:
    """The largest anonymous and shared memory of several processes: what is mapped from files is
    the page cache's."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._peaks = dict.fromkeys(pids, 0.0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, float]:
        """In MiB."""
        self._ended.set()
        self._thread.join()
        return {name: round(peak, 1) for name, peak in self._peaks.items()}

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            for name, process in self._processes.items():
                self._peaks[name] = max(self._peaks[name], process.memory_info().rss / MIB)


def fresh_user(net: Network) -> Network:
    """Somebody whose drive is empty: equal content is stored once within a drive."""
    who = ("--name", f"bench-{secrets.token_hex(4)}", "--password", secrets.token_urlsafe())
    account = net.tesra("register", "--url", net.environ["TESRA_URL"], *who)
    return replace(net, environ=net.environ | {"TESRA_TOKEN": account["token"]})


def used_bytes(user: Network) -> int:
    return int(user.tesra("drive", "du")["used_bytes"])


def settle(folder: Path) -> None:
    """All that was written is on the disk, and the data is in the page cache."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.read(MIB):
                    pass


def still(net: Network) -> None:
    """The network has nothing to do: the copies that no put waits for are made, too."""
    deadline, quiet_since = time.monotonic() + 300, time.monotonic()
    while time.monotonic() - quiet_since < 4:  # those copies begin when all has been quiet for 2 s
        before = cpu_seconds(net)
        time.sleep(0.5)
        if cpu_seconds(net) - before > 0.1:
            quiet_since = time.monotonic()
        if time.monotonic() > deadline:
            raise BenchFailed("The network does not come to rest.")


def cpu_seconds(net: Network | None) -> float:
    """Of this process's ended children, and of all of a network's processes."""
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = own.ru_utime + own.ru_stime
    for process in {one.pid: one for one in processes_of(net.home)}.values() if net else ():
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def make_large(path: Path, mib: int, seed: float = 0) -> None:
    """Bytes that no compression makes smaller."""
    source = random.Random(seed)
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(source.randbytes(MIB))


def make_small(folder: Path) -> None:
    source = random.Random(7)
    for number in range(SMALL):
        place = folder / f"part-{number % 50}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.bin").write_bytes(source.randbytes(SMALL_BYTES))


PARTS: dict[str, Callable[[Network, Path], None]] = {
    "large": lambda net, folder: against("large", net, folder),
    "small": lambda net, folder: against("small", net, folder),
    "tahoe": lambda net, folder: against("tahoe", net, folder),
    "again": again,
    "push": push,
    "peers": from_peers,
    "memory": memory,
}


if __name__ == "__main__":
    run_bench(measure, "drive", 1.0)
