"""One real site (Ray, agent, controller, sandbox) against a server that speaks the protocol."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from factories.sites import Site
from fakes.server import FakeServer
from tesra.node.processes import alive
from tesra.wire.site import RunLimit

pytestmark = [pytest.mark.site, pytest.mark.timeout(240)]

RAY_AGAIN_S = 150  # Ray starts in 9 s on an idle machine, and in many times that on a busy one
EVENTS = """
import os, pathlib, struct, time
def crc(data):
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    value ^= 0xFFFFFFFF
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)
loss = b"\\x0a\\x04loss\\x15" + struct.pack("<f", 0.5)
event = b"\\x09" + struct.pack("<d", time.time()) + b"\\x10\\x07\\x2a" + bytes((len(loss) + 2, 10, len(loss))) + loss
size = struct.pack("<Q", len(event))
folder = pathlib.Path("runs/now")
folder.mkdir(parents=True, exist_ok=True)
name = f"events.out.tfevents.1.host.{os.getpid()}.0"
(folder / name).write_bytes(size + crc(size) + event + crc(event))
began = time.monotonic()
while time.monotonic() - began < 3.5:
    pass
"""
TRACKS = """
import json, os, urllib.request
def ask(what, **told):
    url = os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/" + what
    request = urllib.request.Request(url, json.dumps(told).encode(), method="POST")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)
run = ask("runs/create", experiment_id="0")["run"]["info"]["run_id"]
ask("runs/log-parameter", run_id=run, key="lr", value="0.1")
ask("runs/log-metric", run_id=run, key="loss", value=int(os.environ["RANK"]), timestamp=1, step=1)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    server = FakeServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def site(server: FakeServer) -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="tesra-site-"))
    site = Site(folder / "home", folder / "cache", server)
    site.start()
    try:
        server.until(lambda: server.enrolments, 90)
        yield site
    finally:
        left = site.ray()
        site.end()
        survivors = [p for p in left if alive(p["pid"], p["started"])]
        shutil.rmtree(folder, ignore_errors=True)
        assert not survivors, "a clean end leaves nothing of Ray"


def test_run_trains_reports_its_use_and_stores_its_output(site: Site, server: FakeServer) -> None:
    attempt = site.assign(
        "import os, time, pathlib\n"
        f"assert os.nice(0) == {os.nice(0)}\n"  # ours: Ray would give its workers 15
        "print('rank', os.environ['RANK'], 'of', os.environ['WORLD_SIZE'])\n"
        "time.sleep(0.5)\n"
        "pathlib.Path('out', 'model-' + os.environ['RANK']).write_text('weights')\n",
        devices=2,
    )
    ended = server.until(lambda: server.ended(attempt), 90)
    assert (ended.outcome, ended.reason, ended.warnings) == ("succeeded", None, [])
    assert ended.output is not None
    assert ended.output.file_count == 2
    assert [server.log(attempt, rank) for rank in (0, 1)] == ["rank 0 of 2\n", "rank 1 of 2\n"]
    kinds = server.kinds(attempt)
    assert kinds[0] == "preparing"
    assert kinds[-1] == "ended"
    assert kinds.count("started") == 1
    (used,) = server.usage(attempt)
    assert (used.number, 450 <= used.duration_ms <= 2000) == (1, True)


def test_warm_run_prints_its_first_line_at_once(site: Site, server: FakeServer) -> None:
    began = time.monotonic()
    attempt = site.assign("print('here')")
    server.until(lambda: server.log(attempt))
    took_s = time.monotonic() - began
    assert took_s < 5
    server.until(lambda: server.ended(attempt))


def test_failure_names_the_rank_and_its_last_words(site: Site, server: FakeServer) -> None:
    attempt = site.assign(
        "import os, sys, time\n"
        "if os.environ['RANK'] == '1': sys.exit('the data is bad')\n"
        "time.sleep(60)\n",
        devices=2,
    )
    ended = server.until(lambda: server.ended(attempt), 40)
    assert (ended.outcome, ended.exit_code, ended.rank) == ("failed", 1, 1)
    assert ended.reason is not None
    assert "the data is bad" in ended.reason


def test_missing_output_is_a_warning_and_no_failure(site: Site, server: FakeServer) -> None:
    attempt = site.assign("print('nothing kept')")
    ended = server.until(lambda: server.ended(attempt))
    assert (ended.outcome, ended.output) == ("succeeded", None)
    assert "wrote no output" in ended.warnings[0]


def test_missing_entry_is_refused_in_words(site: Site, server: FakeServer) -> None:
    attempt = site.assign("", entry="nowhere.py")
    ended = server.until(lambda: server.ended(attempt))
    assert ended.outcome == "refused"
    assert "nowhere.py" in (ended.reason or "")
    assert server.usage(attempt) == []


def test_stopped_run_keeps_its_output(site: Site, server: FakeServer) -> None:
    attempt = site.assign(
        "import pathlib, time\npathlib.Path('out/half').write_text('x')\nprint('up')\ntime.sleep(99)\n"
    )
    server.until(lambda: server.log(attempt))
    site.stop_run(attempt)
    ended = server.until(lambda: server.ended(attempt))
    assert ended.outcome == "stopped"
    assert ended.output is not None
    assert ended.output.file_count == 1


def test_the_node_itself_ends_a_run_at_its_cap(site: Site, server: FakeServer) -> None:
    attempt = site.assign(
        "import pathlib, signal, time\n"
        "def end(*_): pathlib.Path('out/checkpoint').write_text('x'); print('asked', flush=True)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "end_at = time.monotonic() + 60\n"
        "while time.monotonic() < end_at: time.sleep(0.05)\n",
        devices=2,
        limit=RunLimit(stop_after_ms=2500, grace_s=1.0),
    )
    ended = server.until(lambda: server.ended(attempt))
    assert (ended.outcome, ended.reason) == ("stopped", "Stopped at its cap.")
    assert ended.output is not None
    assert "asked" in server.log(attempt)
    assert 1400 <= sum(record.duration_ms for record in server.usage(attempt)) <= 3900


def test_full_quota_is_a_warning_that_says_so(site: Site, server: FakeServer) -> None:
    server.drive.full = True
    try:
        attempt = site.assign(
            "import os, pathlib\npathlib.Path('out/big').write_bytes(os.urandom(100_000))"
        )
        ended = server.until(lambda: server.ended(attempt))
    finally:
        server.drive.full = False
    assert (ended.outcome, ended.output) == ("succeeded", None)
    assert "quota" in ended.warnings[0]
    assert (site.home / "site" / "attempts" / attempt / "work" / "out" / "big").exists()


def test_gang_whose_fence_is_gone_is_killed_without_a_word(site: Site, server: FakeServer) -> None:
    attempt = site.assign(
        "import time\nprint('up', flush=True)\nwhile True: print('on'); time.sleep(0.1)"
    )
    server.until(lambda: server.log(attempt))
    server.stale.add(attempt)
    folder = site.home / "site" / "attempts" / attempt
    server.until(lambda: not folder.exists())
    server.unlist(attempt)
    assert server.ended(attempt) is None


def test_million_lines_arrive_whole_and_in_order(site: Site, server: FakeServer) -> None:
    attempt = site.assign("for n in range(1_000_000): print('line', n)")
    server.until(lambda: server.ended(attempt), 90)
    expected = "".join(f"line {n}\n" for n in range(1_000_000))
    assert server.log(attempt) == expected


def test_overlong_line_arrives_whole(site: Site, server: FakeServer) -> None:
    attempt = site.assign("print('x' * 10_000_000); print('end', end='')")
    server.until(lambda: server.ended(attempt), 60)
    assert server.log(attempt) == "x" * 10_000_000 + "\nend"


def test_metrics_arrive_once_and_before_the_end(site: Site, server: FakeServer) -> None:
    attempt = site.assign(
        "import os, tesra, time\n"
        "for n in range(2000): tesra.log({'loss': n, 'bad': float('nan')}, step=n)\n"
        "print(f'epoch 1 acc 91% loss 0.5')",
        devices=2,
    )
    server.until(lambda: server.ended(attempt))
    points = [point for point in server.points(attempt) if point["k"] == "m"]
    for rank in (0, 1):
        told = [point for point in points if point["r"] == rank]
        logged = [point for point in told if point["o"] == "log"]
        assert [point["s"] for point in logged] == list(range(2000))
        assert {point["v"]["bad"] for point in logged} == {"nan"}
        assert {"epoch": 1, "acc": 0.91} in [point["v"] for point in told]


def test_event_files_and_device_use_of_a_gang_arrive(site: Site, server: FakeServer) -> None:
    attempt = site.assign(EVENTS, devices=2)
    server.until(lambda: server.ended(attempt), 60)
    points = server.points(attempt)
    events = [(p["r"], p["s"], p["v"]) for p in points if p.get("o") == "tensorboard"]
    assert sorted(events) == [(0, 7, {"loss": 0.5}), (1, 7, {"loss": 0.5})]
    devices = {p["d"]: p["v"] for p in points if p["k"] == "d"}
    assert set(devices) == {device.id for device in server.enrolments[-1].nodes[0].devices}
    for values in devices.values():
        assert values["use"] > 0
        assert values["memory_bytes"] > 2**20


def test_mlflow_has_an_address_of_each_ranks_own(site: Site, server: FakeServer) -> None:
    attempt = site.assign(TRACKS, devices=2)
    server.until(lambda: server.ended(attempt))
    told = [p for p in server.points(attempt) if p.get("o") == "mlflow" or p["k"] == "p"]
    assert sorted((p["k"], p["r"], str(p["v"])) for p in told) == [
        ("m", 0, "{'loss': 0.0}"),
        ("m", 1, "{'loss': 1.0}"),
        ("p", 0, "{'lr': '0.1'}"),
        ("p", 1, "{'lr': '0.1'}"),
    ]


def test_server_that_refuses_metrics_does_not_hold_up_the_end(
    site: Site, server: FakeServer
) -> None:
    server.refuse_metrics = True
    try:
        attempt = site.assign("import tesra\ntesra.log({'loss': 1})")
        ended = server.until(lambda: server.ended(attempt))
    finally:
        server.refuse_metrics = False
    assert ended.outcome == "succeeded"
    assert server.points(attempt) == []


def test_outage_of_the_server_loses_and_doubles_nothing(site: Site, server: FakeServer) -> None:
    attempt = site.assign(
        "import tesra, time\n"
        "for n in range(50): tesra.log({'n': n}); print(n, flush=True); time.sleep(0.1)"
    )
    server.until(lambda: server.log(attempt))
    server.stop()
    time.sleep(6)  # the run ends meanwhile
    server.start()
    ended = server.until(lambda: server.ended(attempt), 40)
    assert ended.outcome == "succeeded"
    assert server.log(attempt) == "".join(f"{n}\n" for n in range(50))
    assert [point["v"]["n"] for point in server.points(attempt) if "n" in point["v"]] == [
        *range(50)
    ]
    assert sum(used.duration_ms for used in server.usage(attempt)) < 8_000


def test_killed_controller_finds_its_gang_again(site: Site, server: FakeServer) -> None:
    attempt = site.assign("import time\nfor n in range(80): print(n, flush=True); time.sleep(0.1)")
    server.until(lambda: "5\n" in server.log(attempt))
    before = site.ray()
    site.kill()
    site.start()
    ended = server.until(lambda: server.ended(attempt), 60)
    assert ended.outcome == "succeeded"
    assert {p["pid"] for p in before} <= {p["pid"] for p in site.ray()}
    assert server.log(attempt) == "".join(f"{n}\n" for n in range(80))
    assert server.kinds(attempt).count("started") == 1
    used = server.usage(attempt)
    assert [record.number for record in used] == list(range(1, len(used) + 1))
    assert 7_500 <= sum(record.duration_ms for record in used) <= 12_000


def test_killed_agent_makes_the_attempt_lost(site: Site, server: FakeServer) -> None:
    attempt = site.assign(
        "import itertools, tesra, time\n"
        "for n in itertools.count(): tesra.log({'n': n}, step=n); time.sleep(0.01)"
    )
    server.until(lambda: len(server.points(attempt)) > 50)
    agents = [
        p for p in psutil.process_iter(["cmdline"]) if "ray::NodeAgent" in str(p.info["cmdline"])
    ]
    ours = [p for p in agents if p.pid in {record["pid"] for record in site.ray()}]
    assert ours
    began = time.monotonic()
    ours[0].send_signal(signal.SIGKILL)
    ended = server.until(lambda: server.ended(attempt), 40)
    assert ended.outcome == "lost"
    assert time.monotonic() - began < 30
    steps = [point["s"] for point in server.points(attempt) if point["k"] == "m"]
    assert steps == list(range(len(steps)))


def test_killed_raylet_makes_the_attempt_lost_and_ray_comes_back(
    site: Site, server: FakeServer
) -> None:
    attempt = site.assign("import time\nprint('up', flush=True)\ntime.sleep(300)")
    server.until(lambda: "started" in server.kinds(attempt))
    raylet = next(p for p in site.ray() if p["name"] == "raylet")
    os.kill(raylet["pid"], signal.SIGKILL)
    ended = server.until(lambda: server.ended(attempt), RAY_AGAIN_S)
    assert ended.outcome == "lost"
    again = site.assign("print('again')")
    assert server.until(lambda: server.ended(again), RAY_AGAIN_S).outcome == "succeeded"


def test_ray_refuses_without_the_token(site: Site) -> None:
    address = json.loads((site.home / "site" / "ray.json").read_text())["address"]
    tried = subprocess.run(
        [sys.executable, "-c", f"import ray; ray.init(address={address!r})"],
        env={"PATH": os.environ["PATH"], "HOME": str(site.home)},
        capture_output=True,
        timeout=90,
        check=False,
    )
    assert tried.returncode != 0
    assert b"ConnectionError" in tried.stderr
