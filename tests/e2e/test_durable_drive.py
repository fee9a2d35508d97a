"""The drive of a network that ``tesra up`` has started: three peers, copies, what is lost of them."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from factories.command_line import CommandLine, Person

pytestmark = pytest.mark.e2e

PATIENCE_S = 90.0


def until(look: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.2)
    return found


def packs(tesra: CommandLine, number: int) -> dict[str, Path]:
    found = (tesra.home / f"peer-{number}" / "packs").glob("*/*")
    return {path.name: path for path in found if len(path.name) == 64}


@pytest.fixture(scope="module")
def kept(tesra: CommandLine, ann: Person, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ann's file, and the copies of it on three peers."""
    file = tmp_path_factory.mktemp("kept") / "a.bin"
    file.write_bytes(os.urandom(700_000))
    ann.commands.done("drive", "put", str(file), "xingpan:/kept/")
    until(lambda: health(ann)["copies"] == 3, "three copies")
    return file


def health(person: Person) -> Any:
    return person.commands.ask("drive", "health", "xingpan:/kept/a.bin")


def test_three_peers_are_shown_and_one_machine_is_never_called_safe(
    tesra: CommandLine, ann: Person, kept: Path
) -> None:
    status = tesra.ask("status")
    names = {row["name"]: row["state"] for row in status["processes"]}
    assert {"peer-1", "peer-2", "peer-3"} <= names.keys()
    assert [row["state"] for row in status["peers"]] == ["online"] * 3
    assert "3 copies, 1 machine" in ann.commands.done("drive", "health", "xingpan:/kept")
    asked = ann.commands.ask("drive", "audit", "--now")
    assert (asked["open"], asked["stalled"]) == (0, 0)
    found = health(ann)
    assert (found["copies"], found["machines"], found["state"]) == (3, 1, "degraded")
    assert found["last_proof"] is not None


def test_a_changed_copy_rings_an_alarm_and_is_made_anew_by_the_server_itself(
    tesra: CommandLine, operator: CommandLine, ann: Person, kept: Path, tmp_path: Path
) -> None:
    pack, path = max(packs(tesra, 3).items(), key=lambda item: item[1].stat().st_mtime_ns)
    good = path.read_bytes()
    path.write_bytes(good[:100] + bytes([good[100] ^ 1]) + good[101:])
    ann.commands.ask("drive", "audit", "--now")
    alarm = next(one for one in operator.ask("alarms") if one["kind"] == "tampered copy")
    assert pack in alarm["subject"]
    until(lambda: pack in packs(tesra, 3) and packs(tesra, 3)[pack].read_bytes() == good, "anew")
    operator.done("alarms", "--acknowledge", alarm["id"])
    assert alarm["id"] not in {one["id"] for one in operator.ask("alarms")}


def test_a_peer_that_was_killed_is_started_again_by_up_and_the_file_is_whole_meanwhile(
    tesra: CommandLine, ann: Person, kept: Path, tmp_path: Path
) -> None:
    pid = tesra.pids()["peer-2"]
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: tesra.pids()["peer-2"] is None, "it is gone")
    assert tesra.ask("status")["ready"] is False
    ann.commands.done("drive", "get", "xingpan:/kept/a.bin", str(tmp_path / "got"))
    assert (tmp_path / "got").read_bytes() == kept.read_bytes()
    assert json.loads(tesra.done("up", "--detach", "--json"))["started"] == ["peer-2"]
    assert health(ann)["copies"] == 3


def test_only_an_operator_drains_and_a_dry_run_is_one(operator: CommandLine, ann: Person) -> None:
    assert ann.commands.ask("drive", "gc", "--dry-run")["dry_run"] is True
    ann.commands.refused("drive", "drain", "peer-3")
    assert "gateway" in operator.refused("drive", "drain", "peer-1")
