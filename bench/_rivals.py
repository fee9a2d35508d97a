"""What the drive is compared with: restic, borg, tahoe-lafs and plain copying, each as a user has it.

Every one keeps what it is given in a folder of its own, encrypted (but for ``cp``), and is run as
a command, its start included.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from bench._harness import BenchFailed

from tesra.kit.settings import default_cache

TAHOE = "tahoe-lafs==1.20.0"
_NODES = 4
_UP_S = 180.0


class Rival(Protocol):
    """``put`` once, then ``get``; blocks until the command has ended."""

    name: str

    def put(self, source: Path) -> None: ...

    def get(self, dest: Path) -> None: ...


class Copying:
    """No encryption, no copy elsewhere, no history: the disk's own speed."""

    name = "cp"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, source: Path) -> None:
        _run(["cp", "-r", str(source), str(self._folder / "kept")])

    def get(self, dest: Path) -> None:
        _run(["cp", "-r", str(self._folder / "kept"), str(dest)])


class Restic:
    """A local repository; restic encrypts always."""

    name = "restic"

    def __init__(self, folder: Path) -> None:
        self._environ = {
            "RESTIC_REPOSITORY": str(folder / "repository"),
            "RESTIC_PASSWORD": "a password",
            "RESTIC_CACHE_DIR": str(folder / "cache"),
        }
        _run(["restic", "init", "--quiet"], self._environ)

    def put(self, source: Path) -> None:
        _run(["restic", "backup", "--quiet", "."], self._environ, source)

    def get(self, dest: Path) -> None:
        _run(["restic", "restore", "latest", "--quiet", "--target", str(dest)], self._environ)


class Borg:
    """A local repository with its key inside, BLAKE2 for names: borg's quickest encryption here."""

    name = "borg"

    def __init__(self, folder: Path) -> None:
        self._repository = str(folder / "repository")
        self._environ = {"BORG_PASSPHRASE": "a password", "BORG_BASE_DIR": str(folder / "base")}
        _run(["borg", "init", "--encryption", "repokey-blake2", self._repository], self._environ)

    def put(self, source: Path) -> None:
        _run(["borg", "create", f"{self._repository}::one", "."], self._environ, source)

    def get(self, dest: Path) -> None:
        dest.mkdir()
        _run(["borg", "extract", f"{self._repository}::one"], self._environ, dest)


class Tahoe:
    """Four storage nodes and a client on loopback, any two of four shares give the file back."""

    name = "tahoe"

    def __init__(self, command: Path, client: Path) -> None:
        self._command = [str(command), "--node-directory", str(client)]
        self._capability = ""

    def put(self, source: Path) -> None:
        file = next(source.iterdir())
        self._capability = _run([*self._command, "put", str(file)]).strip().splitlines()[-1]

    def get(self, dest: Path) -> None:
        dest.mkdir()
        _run([*self._command, "get", self._capability, str(dest / "file")])


def there(command: str) -> bool:
    """Whether the machine has this program."""
    return shutil.which(command) is not None


@contextmanager
def tahoe_grid(folder: Path) -> Iterator[Tahoe]:
    """A running grid. Raises ``BenchFailed`` where it can't be had."""
    command = _tahoe_command()
    with ExitStack() as running:
        introducer = folder / "introducer"
        _make_node(command, "create-introducer", introducer)
        running.enter_context(_node(command, introducer))
        furl_file = introducer / "private" / "introducer.furl"
        _wait(furl_file.exists, "tahoe's introducer")
        furl = furl_file.read_text().strip()
        options = ["--introducer", furl, "--shares-needed=2", "--shares-total=4"]
        options.append("--shares-happy=4")
        for number in range(_NODES):
            node = folder / f"node-{number}"
            _make_node(command, "create-node", node, *options)
            running.enter_context(_node(command, node))
        client = folder / "client"
        _make_node(command, "create-client", client, *options, listening=False)
        running.enter_context(_node(command, client))
        _wait((client / "node.url").exists, "tahoe's client")
        tahoe = Tahoe(command, client)
        _wait_for_grid(tahoe, folder)
        yield tahoe


def _tahoe_command() -> Path:
    """tahoe in an environment of its own, which is made the first time."""
    place = default_cache() / "bench" / TAHOE.replace("==", "-")
    command = place / "bin" / "tahoe"
    if not command.exists():
        beside = Path(sys.executable).with_name("uv")
        uv = str(beside) if beside.exists() else shutil.which("uv")
        if uv is None:
            raise BenchFailed("there is no uv here to bring tahoe-lafs with")
        place.parent.mkdir(parents=True, exist_ok=True)
        _run([uv, "venv", "--quiet", "--clear", str(place)])
        _run(
            [
                uv,
                "pip",
                "install",
                "--quiet",
                "--compile-bytecode",
                "--python",
                str(place / "bin" / "python"),
                TAHOE,
            ]
        )
    return command


def _make_node(
    command: Path, kind: str, folder: Path, *options: str, listening: bool = True
) -> None:
    where = []
    if listening:
        port = _free_port()
        where = [f"--port=tcp:{port}:interface=127.0.0.1", f"--location=tcp:127.0.0.1:{port}"]
    web = [] if kind == "create-introducer" else ["--webport=tcp:0:interface=127.0.0.1"]
    _run([str(command), kind, *where, *web, *options, str(folder)])


@contextmanager
def _node(command: Path, folder: Path) -> Iterator[None]:
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [str(command), "run", "--allow-stdin-close", str(folder)],  # else it ends with ours
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_grid(tahoe: Tahoe, folder: Path) -> None:
    """Until a first small file goes in: all four nodes are known then."""
    (folder / "probe").mkdir()
    (folder / "probe" / "file").write_bytes(os.urandom(1000))

    def takes() -> bool:
        try:
            tahoe.put(folder / "probe")
        except subprocess.CalledProcessError:
            return False
        return True

    _wait(takes, "tahoe's grid")


def _wait(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _UP_S
    while not holds():
        if time.monotonic() > deadline:
            raise BenchFailed(f"{what} did not start")
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(command: list[str], environ: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    done = subprocess.run(
        command,
        env={**os.environ, **(environ or {})},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return done.stdout
