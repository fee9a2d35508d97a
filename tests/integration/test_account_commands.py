"""``tesra account`` against a real server: second factor, sessions and password, as a user types."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyotp
import pytest

from factories.clusters import Cluster
from factories.identity import unique_name
from factories.peer_network import PeerNetwork, peer_network

pytestmark = pytest.mark.postgres

START = "from tesra.cli.main import build_cli; build_cli()()"
OLD, NEW = "a long secret of mine", "another secret of mine"


@dataclass
class Device:
    """A machine on which somebody is signed in, or not."""

    folder: Path
    url: str

    def run(self, *words: str, typed: str = "", exit_code: int = 0, **more: str) -> tuple[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TESRA_")}
        done = subprocess.run(
            [sys.executable, "-c", START, *words],
            input=typed,
            env=kept | {"TESRA_CONFIG_DIR": str(self.folder), "TESRA_URL": self.url} | more,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == exit_code, (words, done.stdout, done.stderr)
        return done.stdout, done.stderr

    def json(self, *words: str, **more: Any) -> Any:
        return json.loads(self.run(*words, "--json", **more)[0])


@pytest.fixture(scope="module")
def network(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerNetwork]:
    with peer_network(tmp_path_factory.mktemp("home"), cluster.create(), peers=0) as network:
        yield network


@pytest.fixture
def devices(network: PeerNetwork, tmp_path: Path) -> tuple[Device, Device]:
    return Device(tmp_path / "laptop", network.url), Device(tmp_path / "desk", network.url)


def turn_on(device: Device) -> list[str]:
    """The recovery codes; the app's code is taken from what the command shows."""
    command = [sys.executable, "-c", START, "account", "second-factor", "on", "--json"]
    environ = os.environ | {"TESRA_CONFIG_DIR": str(device.folder), "TESRA_URL": device.url}
    with subprocess.Popen(
        [*command, "--password", OLD],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        uri = next(line for line in process.stderr if line.startswith("otpauth://"))
        app = pyotp.parse_uri(uri.strip())
        assert isinstance(app, pyotp.TOTP)
        out, _ = process.communicate(app.now() + "\n", timeout=60)
        assert process.returncode == 0
    codes: list[str] = json.loads(out)["recovery_codes"]
    return codes


def test_a_password_comes_from_a_pipe_where_a_dash_says_so(
    devices: tuple[Device, Device],
) -> None:
    laptop, desk = devices
    name = unique_name()
    laptop.run("register", "--name", name, "--password", "-", typed=f"{OLD}\n")
    signed_in = desk.json("login", "--name", name, "--password", "-", typed=f"{OLD}\n")
    assert signed_in["name"] == name
    missing = desk.run("login", "--name", name, "--password", "-", exit_code=1)[1]
    assert missing.startswith("tesra: Password is missing")


def test_a_code_is_asked_for_only_when_it_is_needed(devices: tuple[Device, Device]) -> None:
    laptop, desk = devices
    name = unique_name()
    laptop.run("register", "--name", name, "--password", OLD)
    assert desk.json("login", "--name", name, typed=f"{OLD}\n")["name"] == name
    recovery = turn_on(laptop)
    assert len(recovery) == 10
    assert "10 left" in laptop.run("account", "second-factor", "status")[0]

    missing = desk.run("login", "--name", name, typed=f"{OLD}\n", exit_code=1)[1]
    assert "Code of your authenticator app" in missing
    assert "Traceback" not in missing
    wrong = desk.run("login", "--name", name, typed=f"{OLD}\nabc-def\n", exit_code=1)[1]
    assert wrong.startswith("tesra: This code is wrong, or was used already.")
    assert desk.json("login", "--name", name, typed=f"{OLD}\n{recovery[0]}\n")["name"] == name
    secret = ("--password", OLD)
    again = desk.run("login", "--name", name, *secret, "--code", recovery[0], exit_code=1)[1]
    assert "was used already" in again
    refused = laptop.run("account", "second-factor", "on", *secret, exit_code=1)[1]
    assert "on already" in refused

    renewed = laptop.json("account", "second-factor", "codes", *secret, "--code", recovery[1])
    fresh = renewed["recovery_codes"]
    off = ("account", "second-factor", "off", *secret, "--code")
    assert "was used already" in laptop.run(*off, recovery[2], exit_code=1)[1]
    assert laptop.run(*off, fresh[0])[0] == "The second factor is off.\n"
    desk.run("login", "--name", name, *secret)


def test_sessions_are_listed_and_ended(devices: tuple[Device, Device]) -> None:
    laptop, desk = devices
    name = unique_name()
    laptop.run("register", "--name", name, "--password", OLD)
    for _ in range(3):
        desk.run("login", "--name", name, "--password", OLD)
    listed = laptop.json("account", "sessions")
    assert [one["current"] for one in listed] == [False, False, False, True]
    assert all(one["address"] == "127.0.0.1" and one["user_agent"] for one in listed)
    assert "(this one)" in laptop.run("account", "sessions")[0]
    assert "ended" in laptop.run("account", "sessions", "--revoke", listed[0]["id"][-8:])[0]
    assert "revoked" in desk.run("whoami", exit_code=1)[1]
    unknown = laptop.run("account", "sessions", "--revoke", "nothing", exit_code=1)[1]
    assert "You have no sessions of that name" in unknown
    laptop.run("account", "sessions", "--revoke", "x", "--others", exit_code=1)
    assert laptop.run("account", "sessions", "--others")[0] == "2 sessions ended.\n"
    assert len(laptop.json("account", "sessions")) == 1


def test_the_password_is_changed_and_other_devices_are_signed_out(
    devices: tuple[Device, Device],
) -> None:
    laptop, desk = devices
    name = unique_name()
    laptop.run("register", "--name", name, "--password", OLD)
    desk.run("login", "--name", name, "--password", OLD)
    refused = laptop.run("account", "password", typed=f"{NEW}\n{NEW}\n", exit_code=1)[1]
    assert "The password is wrong." in refused
    shown = laptop.run("account", "password", typed=f"{OLD}\n{NEW}\n")[0]
    assert shown == "The password is changed; 1 other session ended.\n"
    laptop.run("whoami")
    desk.run("whoami", exit_code=1)
    desk.run("login", "--name", name, "--password", OLD, exit_code=1)
    desk.run("login", "--name", name, "--password", NEW)


def test_an_operator_helps_who_lost_the_phone(
    devices: tuple[Device, Device], network: PeerNetwork
) -> None:
    laptop, desk = devices
    name = unique_name()
    laptop.run("register", "--name", name, "--password", OLD)
    turn_on(laptop)
    with network.operator() as operator:
        token = operator.headers["Authorization"].removeprefix("Bearer ")
    why = ("operator", "second-factor-off", name, "--note", "lost phone; called back")
    assert "operator" in laptop.run(*why, exit_code=1)[1]
    laptop.run(*why, TESRA_TOKEN=token)
    desk.run("login", "--name", name, "--password", OLD)
    log = laptop.run("operator", "events", name, TESRA_TOKEN=token)[0]
    assert "lost phone; called back" in log
    assert "second factor off by operator" in log
