"""The sandbox, tried for real: what a script sees, and that it dies with its node."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tesra.node.sandbox import RANK_UID, SAFE_ENVIRON, Sandbox, SandboxUnavailable, bubblewrap, give

ROOT = os.geteuid() == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "private" / "work"
    made.mkdir(parents=True)
    made.parent.chmod(0o700)
    give(made)
    return made


def run(
    script: str,
    folder: Path,
    *,
    sandbox: Sandbox | None = None,
    readable: tuple[Path, ...] = (),
    tmp: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    argv = (sandbox or Sandbox()).command(
        ["/bin/sh", "-c", script], cwd=folder, writable=[folder], readable=readable, tmp=tmp
    )
    return subprocess.run(
        argv, env=SAFE_ENVIRON, capture_output=True, text=True, timeout=30, check=False
    )


def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def test_this_machine_can_build_a_sandbox() -> None:
    Sandbox().check()


def test_script_writes_into_its_own_folder_below_a_private_one(folder: Path) -> None:
    done = run("pwd; echo hello > made", folder)
    assert (done.returncode, done.stdout.strip()) == (0, str(folder))
    assert (folder / "made").read_text() == "hello\n"


def test_script_runs_as_nobody(folder: Path) -> None:
    done = run("id -u; id -g; id -G; touch made", folder)
    assert done.stdout.split()[:2] == [str(RANK_UID)] * 2
    if ROOT:
        assert (folder / "made").stat().st_uid == RANK_UID
        assert done.stdout.split()[2:] == [str(RANK_UID)]


def test_script_has_no_capability(folder: Path) -> None:
    done = run("grep -E 'Cap(Eff|Prm|Inh|Amb)|NoNewPrivs' /proc/self/status", folder)
    values = dict(line.split() for line in done.stdout.splitlines())
    assert values.pop("NoNewPrivs:") == "1"
    assert set(values.values()) == {"0" * 16}


def test_neighbours_and_the_machines_folders_are_hidden(folder: Path) -> None:
    secret = folder.parent / "secret"
    secret.write_text("s3cret")
    secret.chmod(0o644)
    done = run(f"cat {secret}; ls -A {folder.parent} /home /var /work; ls -A /", folder)
    assert "s3cret" not in done.stdout
    entries = set(done.stdout.split())
    assert "work" in entries  # its own folder, seen in the parent's list
    assert not entries & {"secret", "home", "var", "opt", "srv", "mnt", "run", "boot"}


@pytest.mark.skipif(not ROOT, reason="a user's own interpreter may lie in the home folder")
def test_roots_home_shows_nothing_but_the_interpreter(folder: Path) -> None:
    done = run("ls -A /root", folder)
    assert done.stdout.split() in ([], [Path(sys.base_prefix).relative_to("/root").parts[0]])


def test_system_and_readable_folders_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    shown.mkdir(mode=0o777)
    shown.chmod(0o777)
    done = run(
        f"touch /etc/x /usr/x {shown}/x {sys.base_prefix}/x /sys/x; ls {shown} && echo seen",
        folder,
        readable=(shown,),
    )
    assert done.stdout.strip() == "seen"
    assert not list(shown.iterdir())


def test_tmp_and_shared_memory_are_its_own_and_open_to_all(folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "tmp"
    mine.mkdir()
    give(mine)
    assert run("touch /tmp/a /dev/shm/a && ls /dev/shm /tmp", folder).stdout.split().count("a") == 2
    assert run("touch /tmp/kept", folder, tmp=mine).returncode == 0
    assert (mine / "kept").exists()
    assert not Path("/dev/shm/a").exists()


def test_processes_of_the_machine_are_not_seen(folder: Path) -> None:
    done = run("ls /proc", folder)
    pids = [int(name) for name in done.stdout.split() if name.isdigit()]
    assert pids
    assert max(pids) < 10


def test_credentials_of_pip_are_masked(folder: Path) -> None:
    done = run("cat /etc/pip.conf; ls -A /etc/ssl/private; ls -l /etc/hosts", folder)
    assert "/etc/hosts" in done.stdout
    assert "index" not in done.stdout


def test_hidden_folder_inside_a_shown_one_is_empty(folder: Path) -> None:
    hidden = Path("/usr/share")
    done = run("ls -A /usr/share", folder, sandbox=Sandbox(hidden=[hidden]))
    assert (done.returncode, done.stdout) == (0, "")


def test_network_and_its_names_are_there(folder: Path) -> None:
    done = run("cat /etc/resolv.conf > /dev/null && cat /proc/net/dev", folder)
    assert done.returncode == 0
    assert "lo:" in done.stdout


def test_script_dies_when_its_starter_is_killed(folder: Path) -> None:
    """The starter is killed with SIGKILL; a child in a session of its own must die too."""
    mark = f"6{os.getpid()}"
    argv = Sandbox().command(
        ["/bin/sh", "-c", f"setsid sleep {mark} & sleep {mark}"],
        cwd=folder,
        writable=[folder],
        readable=(),
    )
    code = "import subprocess,sys; subprocess.Popen(sys.argv[1:]).wait()"
    starter = subprocess.Popen([sys.executable, "-c", code, *argv], env=SAFE_ENVIRON)

    def sleepers() -> list[psutil.Process]:
        found = psutil.process_iter(["cmdline"])
        return [process for process in found if process.info["cmdline"] == ["sleep", mark]]

    until(lambda: len(sleepers()) == 2)
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    until(lambda: not sleepers())


def test_machine_that_forbids_it_is_told_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text(
        "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1\n"
    )
    broken.chmod(0o755)
    monkeypatch.setattr("tesra.node.sandbox.bubblewrap", lambda: broken)
    with pytest.raises(SandboxUnavailable) as caught:
        Sandbox().check()
    assert "No permissions" in caught.value.detail
    assert "--no-sandbox" in str(caught.value.way_out)
    assert "max_user_namespaces" in str(caught.value.way_out)


def test_without_the_sandbox_the_command_still_runs(folder: Path) -> None:
    sandbox = Sandbox(enabled=False)
    sandbox.check()
    assert run("echo ran", folder, sandbox=sandbox).stdout == "ran\n"


@pytest.mark.skipif(not ROOT, reason="only root has rights to drop")
def test_without_the_sandbox_root_drops_its_rights_where_it_can() -> None:
    argv = Sandbox(enabled=False).command(
        ["/bin/sh", "-c", "id -u"], cwd=Path("/usr"), writable=(), readable=()
    )
    done = subprocess.run(argv, env=SAFE_ENVIRON, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(RANK_UID)


@pytest.mark.skipif(not ROOT, reason="only root can give")
def test_giving_never_follows_a_link_nor_takes_a_shared_file(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("x")
    (tmp_path / "given" / "deep").mkdir(parents=True)
    (tmp_path / "given" / "link").symlink_to(outside)
    os.link(outside, tmp_path / "given" / "hard")
    (tmp_path / "given" / "deep" / "file").touch()
    give(tmp_path / "given")
    assert outside.stat().st_uid == 0
    assert (tmp_path / "given" / "deep" / "file").stat().st_uid == RANK_UID


@pytest.mark.skipif(not ROOT, reason="root can become another user to try it")
@pytest.mark.skipif(not Path("/usr/bin/setpriv").exists(), reason="needs setpriv")
def test_another_user_than_root_gets_the_same_sandbox(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The very profile of an ordinary user, built as one: uid 65534 by a user namespace."""
    argv = [
        *("--unshare-user", "--uid", "65534", "--gid", "65534", "--unshare-pid", "--unshare-ipc")
    ]
    argv += [
        "--ro-bind",
        "/usr",
        "/usr",
        "--symlink",
        "usr/lib",
        "/lib",
        "--symlink",
        "usr/lib64",
        "/lib64",
    ]
    argv += ["--proc", "/proc", "--dev", "/dev", "/usr/bin/id", "-u"]
    become = ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups"]
    done = subprocess.run(
        [*become, str(bubblewrap()), *argv], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"this machine gives users no namespaces: {done.stderr.strip()}")
    assert done.stdout.strip() == "65534"
