"""A process is its pid and its start time."""

import subprocess
import sys
import time

import psutil

from tesra.node.processes import alive, kill_group, kill_tree, started_at

PARENT = "import subprocess, time; subprocess.Popen(['sleep', '600']); print('up', flush=True); time.sleep(600)"


def start() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    return process


def finish(process: subprocess.Popen[bytes]) -> None:
    kill_group(process.pid)
    process.communicate()


def test_process_is_alive_until_it_ends_even_as_a_zombie() -> None:
    process = start()
    started = started_at(process.pid)
    assert started is not None
    assert alive(process.pid, started)
    process.kill()
    deadline = time.monotonic() + 5
    while alive(process.pid, started):
        assert time.monotonic() < deadline
    finish(process)
    assert started_at(process.pid) is None


def test_another_process_with_the_same_pid_is_left_alone() -> None:
    process = start()
    started = started_at(process.pid)
    assert started is not None
    kill_tree(process.pid, started - 100)
    assert alive(process.pid, started)
    finish(process)


def test_whole_tree_is_killed() -> None:
    process = start()
    child = psutil.Process(process.pid).children()[0]
    child_started = child.create_time()
    kill_tree(process.pid, started_at(process.pid) or 0)
    assert process.wait(5) == -9
    process.communicate()  # ends when the child has closed the pipe, which it holds too
    deadline = time.monotonic() + 5
    while alive(child.pid, child_started):
        assert time.monotonic() < deadline


def test_group_that_is_gone_is_no_error() -> None:
    process = start()
    finish(process)
    kill_group(process.pid)
