import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tesra.app.supervisor import (
    HomeBusy,
    ProcessRecord,
    ProcessTable,
    alive,
    exclusive,
    is_held,
    spawn,
    start_mark,
    stop,
    wait_ended,
)

SLEEPER = "import time; print('ready', flush=True); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPER
PARENT = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "print('ready', child.pid, flush=True)\n"
    "time.sleep(600)"
)


def wait_for(condition: Callable[[], object], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def start(program: str, folder: Path) -> tuple[ProcessRecord, Path]:
    log = folder / "process.log"
    record = spawn("server", [sys.executable, "-c", program], log, os.environ)
    wait_for(lambda: "ready" in log.read_text())
    return record, log


def test_started_process_is_alive_until_it_is_stopped(tmp_path: Path) -> None:
    record, _ = start(SLEEPER, tmp_path)
    assert alive(record)
    stop(record, grace_s=5)
    assert not alive(record)


def test_process_lives_in_a_session_of_its_own(tmp_path: Path) -> None:
    record, _ = start(SLEEPER, tmp_path)
    assert os.getsid(record.pid) == record.pid
    stop(record, grace_s=5)


def test_process_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    record, _ = start(STUBBORN, tmp_path)
    began = time.monotonic()
    stop(record, grace_s=0.3)
    assert not alive(record)
    assert time.monotonic() - began >= 0.3


def test_children_of_a_stopped_process_are_stopped_with_it(tmp_path: Path) -> None:
    record, log = start(PARENT, tmp_path)
    child = int(log.read_text().rpartition("ready ")[2])
    stop(record, grace_s=5)
    assert start_mark(child) is None


def test_pid_that_belongs_to_another_by_now_is_never_signalled() -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        record = ProcessRecord("server", other.pid, start_mark(other.pid) or "")
        stop(replace(record, started=record.started + "0"), grace_s=0.2)
        assert other.poll() is None
        other.kill()


def test_zombie_counts_as_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        wait_for(lambda: start_mark(child.pid) is None)
        assert Path(f"/proc/{child.pid}").exists()


def test_log_of_a_process_is_private_and_appended_to(tmp_path: Path) -> None:
    for _ in range(2):
        record = spawn("server", [sys.executable, "-c", "print('x')"], tmp_path / "a.log", {})
        assert wait_ended([record], 10)
    lines = (tmp_path / "a.log").read_text().splitlines()
    assert [line for line in lines if not line.startswith("--- started")] == ["x", "x"]
    assert (tmp_path / "a.log").stat().st_mode & 0o777 == 0o600


def test_table_remembers_what_was_put_and_forgets_what_was_removed(tmp_path: Path) -> None:
    table = ProcessTable(tmp_path / "processes.json")
    assert table.read() == {}
    table.put(ProcessRecord("server", 1, "a"))
    table.put(ProcessRecord("site", 2, "b"))
    table.put(ProcessRecord("server", 3, "c"))
    table.remove("site")
    assert ProcessTable(tmp_path / "processes.json").read() == {
        "server": ProcessRecord("server", 3, "c")
    }
    assert (tmp_path / "processes.json").stat().st_mode & 0o777 == 0o600


def test_table_tells_the_running_from_the_ended(tmp_path: Path) -> None:
    table = ProcessTable(tmp_path / "processes.json")
    table.put(ProcessRecord("site", os.getpid(), start_mark(os.getpid()) or ""))
    table.put(ProcessRecord("server", os.getpid(), "another start"))
    assert set(table.running()) == {"site"}


def test_second_command_on_a_home_is_refused_while_the_first_works(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path / "lock"),
        pytest.raises(HomeBusy, match="starting or stopping"),
        exclusive(tmp_path / "lock"),
    ):
        pass
    assert not is_held(tmp_path / "lock")
    with exclusive(tmp_path / "lock"):
        assert is_held(tmp_path / "lock")


def test_lock_of_a_killed_command_is_free_again(tmp_path: Path) -> None:
    holder = (
        "import sys, time; from pathlib import Path; from tesra.app.supervisor import exclusive\n"
        f"with exclusive(Path({str(tmp_path / 'lock')!r})): print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    with exclusive(tmp_path / "lock", wait_s=1):
        pass
