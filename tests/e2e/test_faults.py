"""Real signals to real processes of a real network, while a gang of two counts."""

import json
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from factories.fault_network import COUNTER, SPY, FaultNetwork, kill, wait_for
from tesra.node.ray_processes import load_core
from tesra.sdk.client import Client, LiveRun

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MAX_ATTEMPTS = 4


@pytest.fixture(scope="module")
def network() -> Iterator[FaultNetwork]:
    network = FaultNetwork()
    try:
        network.up()
        yield network
        network.down()
        wait_for(lambda: not network.processes(), "nothing of the network is left")
    finally:
        network.remove()


@pytest.fixture
def net(network: FaultNetwork) -> Iterator[FaultNetwork]:
    """Whole before each test, whatever the last one did to it; at rest after it."""
    network.up()
    network.stop_runs()
    yield network
    network.check_rest()


def counting(net: FaultNetwork) -> LiveRun:
    run = net.submit()
    net.running(run)
    return run


def check_success(net: FaultNetwork, run: LiveRun, *, attempt: int) -> None:
    """The whole record is right, and the next run works."""
    now = run.refresh()
    assert (now.state, now.attempt, now.reason) == ("succeeded", attempt, None)
    assert now.output is not None
    net.check_log(run, complete=attempt)
    net.check_bill(run)
    net.check_rest()
    after = net.submit()
    net.running(after, lines=1)
    assert net.finish(after).state == "succeeded"


def test_server_killed_while_preparing_while_running_and_at_the_end_loses_nothing(
    net: FaultNetwork,
) -> None:
    run = net.submit()
    with ThreadPoolExecutor() as threads:
        followed = threads.submit(net.heard, run, follow=True)
        kill(net.pid("server"))
        assert net.up() == ["server"]
        net.running(run)
        kill(net.pid("server"))
        assert net.up() == ["server"]
        net.running(run, lines=200)
        server = net.pid("server")
        net.let_finish()
        wait_for(lambda: not net.ranks(), "the gang has ended")
        kill(server)
        assert net.up() == ["server"]
        net.ended(run)
        assert followed.result() == net.heard(run), "one who followed has seen the same"
    check_success(net, run, attempt=1)


def test_server_stopped_for_a_while_holds_nothing_up(net: FaultNetwork) -> None:
    run = counting(net)
    server = psutil.Process(net.pid("server"))
    server.suspend()
    try:
        log = net.log_file(rank=0)
        before = log.stat().st_size
        wait_for(lambda: log.stat().st_size > before + 3000, "the gang goes on meanwhile")
    finally:
        server.resume()
    net.finish(run)
    check_success(net, run, attempt=1)


def test_run_goes_on_when_site_and_database_are_killed(net: FaultNetwork) -> None:
    run = counting(net)
    kill(net.pid("site"))
    kill(net.pid("postgres"))
    assert sorted(net.up()) == ["postgres", "site"]
    net.running(run, lines=300)
    net.finish(run)
    check_success(net, run, attempt=1)


@pytest.mark.parametrize("name", ["ray::NodeAgent", "raylet", "gcs_server"])
def test_run_is_queued_again_by_itself_when_this_is_killed(net: FaultNetwork, name: str) -> None:
    run = counting(net)
    site = net.pid("site")
    kill(net.ray_pid(name))
    net.running(run, attempt=2)
    net.finish(run)
    check_success(net, run, attempt=2)
    assert net.pid("site") == site
    requeued = [e.text for e in net.client.events(run.id) if e.kind == "queued"][1]
    assert requeued == "Queued again: The node's agent died."


def test_run_whose_sandbox_is_killed_each_time_is_given_up_at_no_charge(net: FaultNetwork) -> None:
    run = net.submit()
    for attempt in range(1, MAX_ATTEMPTS + 1):
        net.running(run, attempt=attempt)
        kill(net.gang().pid)
    ended = net.ended(run)
    assert (ended.state, ended.attempt) == ("failed", MAX_ATTEMPTS)
    assert ended.reason is not None
    assert ended.reason.startswith("Given up after 4 attempts, at no charge")
    net.check_bill(run, charged=False)


def test_killed_rank_fails_the_run_and_its_use_is_billed(net: FaultNetwork) -> None:
    run = counting(net)
    kill(next(process.pid for process in net.ranks() if process.environ()["RANK"] == "1"))
    ended = net.ended(run)
    assert (ended.state, ended.exit_code, ended.attempt) == ("failed", 137, 1)
    assert ended.reason is not None
    assert ended.reason.startswith("Rank 1 was killed by signal 9 SIGKILL")
    net.check_bill(run)


def test_run_outlives_down_and_up_even_when_these_are_killed_half_way(net: FaultNetwork) -> None:
    run = counting(net)
    site = psutil.Process(net.pid("site"))
    down = net.begin("down")
    wait_for(lambda: not net.ranks(), "the site ends")
    kill(down.pid)
    down.communicate()
    net.up()
    assert not site.is_running()
    net.running(run, attempt=2)
    net.down()
    assert net.processes() == []
    up = net.begin("up", "--detach")
    wait_for(lambda: net.home.processes.stat().st_size > 3, "something has been started")
    kill(up.pid)
    up.communicate()
    net.up()
    net.running(run, attempt=3)
    net.finish(run)
    check_success(net, run, attempt=3)


def test_second_server_takes_over_the_dispatch_when_the_first_is_killed(net: FaultNetwork) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    second = net.begin("server", "--port", str(port), stderr=subprocess.DEVNULL)
    try:
        other = Client(url=f"http://127.0.0.1:{port}", token=net.client.token)
        wait_for(lambda: _answers(port), "the second server answers")
        run = counting(net)
        kill(net.pid("server"))
        waiting = net.submit(other)
        other.stop(run.id)  # its site hears of it when its own server is back
        net.up()
        net.ended(run)
        wait_for(lambda: other.show(waiting.id).state == "running", "it is dispatched")
        net.finish(waiting)
        check_success(net, waiting, attempt=1)
    finally:
        second.send_signal(signal.SIGTERM)
        second.communicate()


def test_script_sees_no_other_run_no_key_no_token_and_writes_only_its_own(
    net: FaultNetwork,
) -> None:
    mark = secrets.token_hex(8)
    stash = f"import os\nfor name in ('a.txt', '/tmp/a.txt', 'out/a.txt'):\n    open(name, 'w').write('{mark}')\n"
    ann = net.user("victim", stash + COUNTER)
    run = net.submit(ann, devices=1, secrets={"KEY": mark})
    net.running(run)
    core = load_core(net.home.site)
    assert core is not None
    hints = {"MARK": mark[::-1], "NETWORK": str(net.home.root), "RAY": core.temp}
    spying = net.submit(net.user("spy", SPY), devices=1, env=hints)
    assert net.ended(spying).state == "succeeded"
    found = json.loads(net.heard(spying)[1, 0][-1])
    net.finish(run)

    assert found["marked"] == [], "nothing of the other run"
    own = found["own"]
    outside = [path for path in found["writable"] if not path.startswith((own, "/tmp", "/dev/shm"))]
    assert outside == []
    assert found["opened"] == []
    assert found["beside"] == [own.rpartition("/")[2]]
    assert found["uid"] not in (0, os.getuid()) or os.getuid() != 0
    assert all(
        "train.py" in line or "bwrap" in line or "rank_launcher" in line
        for line in found["processes"]
    )
    assert not [name for name in found["environ"] if "TOKEN" in name or name.startswith("RAY_")]


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/api/v1/health").is_success
    except httpx.TransportError:
        return False
