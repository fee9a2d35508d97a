"""A site of two real nodes: gangs over both, and what happens when one of them dies."""

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from factories.fault_network import kill_node
from factories.sites import Site
from fakes.server import FakeServer
from tesra.kit.settings import Home
from tesra.node.processes import alive
from tesra.node.workspace import TESRA_RANK
from tesra.wire.stalls import Stalled, StalledRank
from tesra.wire.tuning import Tuned, TuneOrder

pytestmark = [pytest.mark.site, pytest.mark.timeout(240)]

STALL_AFTER_S = 4.0
BACK_S = 150  # a node's Ray starts in some seconds on an idle machine

# Rank 0 and rank 1 meet at the master's port, so each knows when the other is gone.
MEET = """
import os, pathlib, socket, sys, time
rank = int(os.environ["RANK"])
master = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
if rank == 0:
    listener = socket.create_server(master)
    link = listener.accept()[0]
else:
    while True:
        try:
            link = socket.create_connection(master)
            break
        except ConnectionRefusedError:
            time.sleep(0.01)
print(f"rank {rank} of {os.environ['WORLD_SIZE']} on node {os.environ['NODE_RANK']}", flush=True)

def wait_for_the_other():
    if not link.recv(1):
        sys.exit("the other rank is gone")
"""
SAVE = """
link.sendall(b"x")
wait_for_the_other()
pathlib.Path("out", "model.pt").write_text("weights")
"""
FAIL = """
if rank == 1:
    sys.exit("the data is bad")
wait_for_the_other()
"""
# Its connections close as its interpreter ends, and it is gone long after who failed of it.
FAIL_SLOWLY = """
import atexit
if rank == 1:
    atexit.register(lambda: (link.close(), time.sleep(1)))
    raise ValueError("the data is bad")
wait_for_the_other()
"""
WAIT = "wait_for_the_other()\n"
STALL = """
import signal
def wake(number, frame):
    raise InterruptedError
signal.signal(signal.SIGUSR1, wake)
if rank == 0:
    wait_for_the_other()
else:
    try:
        time.sleep(3600)
    except InterruptedError:
        link.sendall(b"x")
while not os.path.exists("finish"):
    print("on", flush=True)
    time.sleep(0.05)
"""
COUNT = """
import os, time
while not os.path.exists("finish"):
    print("on", flush=True)
    time.sleep(0.05)
"""


# Each rank at its own speed; tells the step at which the parameter has changed.
STEPS = """
import os, time, tesra
rank, done = int(os.environ["RANK"]), 0
print("stepping", flush=True)
while tesra.params.lr:
    time.sleep([0.001, 0.005][rank])
    done = tesra.step()
print("changed at", done + 1, flush=True)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    server = FakeServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def site(server: FakeServer) -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="tesra-nodes-"))
    site = Site(
        folder / "home", folder / "cache", server, nodes=2, devices=4, stall_after_s=STALL_AFTER_S
    )
    site.start()
    try:
        server.until(lambda: server.enrolments, BACK_S)
        yield site
    finally:
        left = site.ray()
        site.end()
        survivors = [p for p in left if alive(p["pid"], p["started"])]
        shutil.rmtree(folder, ignore_errors=True)
        assert not survivors, "a clean end leaves nothing of either node"


def ranks_of(site: Site, attempt: str) -> list[psutil.Process]:
    """The scripts that run in this attempt's folders."""
    folders = [folder / "attempts" / attempt / "work" for folder in Home(site.home).nodes()]
    found = []
    for process in psutil.process_iter():
        try:
            if "train.py" in process.cmdline() and Path(process.cwd()) in folders:
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_nodes_of_one_machine_share_its_devices_and_have_names_of_their_own(site: Site) -> None:
    first, second = site.node(0), site.node(1)
    assert first.id != second.id
    assert [len(node.devices) for node in (first, second)] == [2, 2]
    assert (first.name[-2:], second.name[-2:]) == ("/1", "/2")
    assert not {d.id for d in first.devices} & {d.id for d in second.devices}


def test_gang_over_two_nodes_meets_and_its_output_is_that_of_the_first(
    site: Site, server: FakeServer
) -> None:
    attempt = site.assign(MEET + SAVE, on=(0, 1))
    ended = server.until(lambda: server.ended(attempt), 60)
    assert (ended.outcome, ended.reason) == ("succeeded", None)
    for rank in (0, 1):
        assert server.log(attempt, rank) == f"rank {rank} of 2 on node {rank}\n"
    assert ended.output is not None
    assert ended.output.file_count == 1
    (warning,) = ended.warnings
    assert warning.startswith(f"Not kept: 1 file that node {site.node(1).name} wrote to 'out'")
    (used,) = server.usage(attempt)
    assert used.duration_ms > 0


def test_rank_that_fails_ends_the_gang_on_both_nodes_and_is_named_with_its_node(
    site: Site, server: FakeServer
) -> None:
    attempt = site.assign(MEET + FAIL, on=(0, 1))
    server.until(lambda: server.log(attempt, 1))
    began = time.monotonic()
    ended = server.until(lambda: server.ended(attempt), 20)
    assert time.monotonic() - began < 5
    assert (ended.outcome, ended.exit_code, ended.rank) == ("failed", 1, 1)
    assert ended.reason is not None
    words, *lines = ended.reason.splitlines()
    assert words == f"Rank 1 ended with exit code 1 on node {site.node(1).name}."
    assert lines[-1] == "the data is bad"
    assert ranks_of(site, attempt) == []


def test_rank_that_failed_first_is_named_though_another_is_gone_a_second_before(
    site: Site, server: FakeServer
) -> None:
    attempt = site.assign(MEET + FAIL_SLOWLY, on=(0, 1))
    ended = server.until(lambda: server.ended(attempt), 30)
    assert (ended.outcome, ended.exit_code, ended.rank) == ("failed", 1, 1)
    assert ended.reason is not None
    words, *lines = ended.reason.splitlines()
    assert words == f"Rank 1 ended with exit code 1 on node {site.node(1).name}."
    assert lines[-1] == "ValueError: the data is bad"


def test_gang_over_two_nodes_changes_a_parameter_at_the_same_step_on_both(
    site: Site, server: FakeServer
) -> None:
    attempt = site.assign(STEPS, on=(0, 1), params={"lr": 0.1})
    server.until(lambda: server.log(attempt, 0) and server.log(attempt, 1))
    change = TuneOrder(seq=1, values={"lr": 0.0})
    server.want(server.listed[attempt].model_copy(update={"tuning": [change]}))
    ended = server.until(lambda: server.ended(attempt), 40)
    assert ended.outcome == "succeeded"
    facts = [fact.body for fact in server.facts if fact.attempt == attempt]
    (made,) = [fact for fact in facts if isinstance(fact, Tuned)][-1].changes
    assert made.state == "applied"
    assert [(took.rank, took.step) for took in made.ranks] == [(0, made.step), (1, made.step)]
    for rank in (0, 1):
        assert server.log(attempt, rank) == f"stepping\nchanged at {made.step}\n"


def test_rank_that_stands_still_while_another_node_waits_for_it_is_named_once(
    site: Site, server: FakeServer
) -> None:
    attempt = site.assign(MEET + STALL, on=(0, 1))
    server.until(lambda: server.log(attempt, 0) and server.log(attempt, 1))

    def told() -> list[Stalled]:
        bodies = [fact.body for fact in server.facts if fact.attempt == attempt]
        return [body for body in bodies if isinstance(body, Stalled)]

    server.until(told, STALL_AFTER_S + 15)
    name = site.node(1).name
    (fact,) = told()
    assert fact.ranks == [StalledRank(rank=1, node=name)]
    assert [known.rank for known in fact.waiting] == [0]
    server.until(lambda: f"Rank 1 on node {name} has made no" in server.log(attempt, TESRA_RANK))
    works = [node / "attempts" / attempt / "work" for node in Home(site.home).nodes()]
    for rank in ranks_of(site, attempt):
        if Path(rank.cwd()) == works[1]:
            rank.send_signal(signal.SIGUSR1)
    server.until(lambda: len(told()) == 2, 15)
    for work in works:
        (work / "finish").touch()
    assert server.until(lambda: server.ended(attempt), 30).outcome == "succeeded"
    assert [known.over for known in told()] == [False, True]
    assert "The ranks go on again.\n" in server.log(attempt, TESRA_RANK)


def test_gang_whose_node_dies_is_lost_at_once_while_another_goes_on(
    site: Site, server: FakeServer
) -> None:
    healthy = site.assign(COUNT, on=(0,))
    attempt = site.assign(MEET + WAIT, on=(0, 1), devices=1)
    server.until(lambda: server.log(attempt, 0) and server.log(healthy))
    before = len(server.enrolments)
    kill_node(Home(site.home).node(1))
    began = time.monotonic()
    ended = server.until(lambda: server.ended(attempt), 30)
    assert time.monotonic() - began < 10
    assert ended.outcome == "lost"
    assert ended.reason == f"Node {site.node(1).name} was lost: its processes have ended."
    assert ranks_of(site, attempt) == []
    without = server.enrolments[before]
    assert [node.id for node in without.nodes] == [site.node(0).id]

    said = len(server.log(healthy))
    server.until(lambda: len(server.log(healthy)) > said)
    server.until(lambda: len(server.enrolments[-1].nodes) == 2, BACK_S)
    (Home(site.home).node(0) / "attempts" / healthy / "work" / "finish").touch()
    assert server.until(lambda: server.ended(healthy), 30).outcome == "succeeded"
    again = site.assign(MEET + SAVE, on=(0, 1))
    assert server.until(lambda: server.ended(again), 60).outcome == "succeeded"
