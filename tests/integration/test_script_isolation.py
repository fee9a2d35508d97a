"""A training script reaches neither the database nor the keys, however it tries."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tesra.crypto.keys import load_or_create_master_key
from tesra.db.embedded import EmbeddedPostgres
from tesra.kit.settings import Home
from tesra.node.sandbox import SAFE_ENVIRON, Sandbox, give

pytestmark = pytest.mark.postgres

ATTACK = """
import json, os, pathlib, socket, sys
home, data, sockets = sys.argv[1:4]
found = {"read": [], "sockets": [], "processes": [], "environs": [], "ports": []}
for root in (home, data, sockets, "/run", "/var", "/root", "/home", "/proc/1/root"):
    for folder, _, files in os.walk(root):
        for name in files:
            path = os.path.join(folder, name)
            if path.startswith("/proc/1/root/") and not path.startswith("/proc/1/root" + home):
                continue
            try:
                open(path, "rb").read(1)
                found["read"].append(path)
            except OSError:
                pass
for top in set(os.listdir("/")) - {"usr", "proc", "sys", "lib", "lib64", "etc", "bin", "sbin"}:
    found["sockets"] += map(str, pathlib.Path("/", top).rglob(".s.PGSQL.*"))
try:
    unix = socket.socket(socket.AF_UNIX)
    unix.connect(sockets + "/.s.PGSQL.5432")
    found["sockets"].append("connected")
except OSError:
    pass
for line in open("/proc/net/unix"):
    name = line.split()[-1]
    if "PGSQL" in name and name.startswith("@"):
        found["sockets"].append(name)
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        command = open(f"/proc/{pid}/cmdline").read()
    except OSError:
        continue
    if "postgres" in command and "attack" not in command:
        found["processes"].append(command)
for port in (5432, 5433):
    with socket.socket() as tcp:
        tcp.settimeout(1)
        if tcp.connect_ex(("127.0.0.1", port)) == 0:
            found["ports"].append(port)
found["environs"] = [k for k in os.environ if "TOKEN" in k or "TESRA_HOME" in k or "PG" in k]
found["uid"] = os.getuid()
print(json.dumps(found))
"""


@pytest.fixture
def home() -> Iterator[Home]:
    folder = Path(tempfile.mkdtemp(prefix="tesra-isolation-"))
    home = Home(folder / "home")
    home.create()
    yield home
    shutil.rmtree(folder)


def test_a_sandboxed_script_reaches_neither_the_database_nor_the_keys(home: Home) -> None:
    load_or_create_master_key(home.keys / "master.key")
    postgres = EmbeddedPostgres(home)
    url = postgres.start()
    try:
        sockets = url.rpartition("host=")[2].replace("%2F", "/")
        assert Path(sockets).is_dir(), "the test must attack the real socket folder"
        found = _attack(home, sockets)
    finally:
        postgres.stop()
    read = [path for path in found["read"] if str(home.root) in path or sockets in path]
    assert read == []
    assert found["sockets"] == []
    assert found["processes"] == []
    assert found["environs"] == []
    assert found["ports"] == []
    assert found["uid"] != 0


def _attack(home: Home, sockets: str) -> dict:
    work = home.root.parent / "work"
    work.mkdir()
    (work / "attack.py").write_text(ATTACK)
    give(work)
    argv = Sandbox(hidden=(home.root,)).command(
        [
            f"{sys.base_prefix}/bin/python3",
            "-I",
            "attack.py",
            str(home.root),
            str(home.database),
            sockets,
        ],
        cwd=work,
        writable=[work],
        readable=[],
    )
    done = subprocess.run(argv, env=SAFE_ENVIRON, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)
