"""The real command line on a network of its own, as its users drive it."""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from tesra.kit.settings import default_cache

SOURCES = Path(__file__).resolve().parent.parent.parent / "src"
MARK = "NETWORK_UNDER_TEST"  # a name that the site does not take from Ray's environment
END_S = 30


class CommandLine:
    """The ``tesra`` command with an environment of its own; ``folder`` holds home and logins."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self.home = folder / "home"
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TESRA_")}
        self.environ = kept | {
            "TESRA_HOME": str(self.home),
            "TESRA_CONFIG_DIR": str(folder / "logins"),
            "TESRA_CACHE": str(default_cache()),
            "PYTHONPATH": str(SOURCES),
            MARK: folder.name,
            **environ,
        }

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tesra.app.main", *arguments],
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def done(self, *arguments: str, **environ: str) -> str:
        """What a command printed that had to succeed."""
        done = self.run(*arguments, **environ)
        assert done.returncode == 0, f"tesra {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def ask(self, *arguments: str) -> Any:
        return json.loads(self.done(*arguments, "--json"))

    def refused(self, *arguments: str) -> str:
        """The one line on stderr of a command that had to be refused."""
        done = self.run(*arguments)
        assert done.returncode == 1, f"tesra {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("tesra: ")
        return done.stderr

    def pids(self) -> dict[str, int | None]:
        return {row["name"]: row["pid"] for row in self.ask("status")["processes"]}

    def processes(self) -> list[str]:
        """Every live process that was started for this network, however indirectly."""
        found = []
        for process in psutil.process_iter():
            try:
                command = " ".join(process.cmdline())
                ours = str(self.folder) in command or (
                    process.environ().get(MARK) == self.folder.name
                )
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid} {command[:200]}")
            except psutil.Error:
                continue
        return found

    def wait_until_gone(self) -> list[str]:
        """What is left of the network when it had time enough to end."""
        deadline = time.monotonic() + END_S
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left


@dataclass
class Person:
    """A user of the network, with scripts to train."""

    commands: CommandLine
    name: str
    token: str
    scripts: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="tesra-我的 ")))

    @classmethod
    def register(cls, network: CommandLine, url: str) -> "Person":
        name = f"安-{uuid4().hex[:8]}"
        secret = ("--password", "a long secret of mine")
        account = network.ask("register", "--name", name, *secret, "--url", url)
        environ = {"TESRA_URL": url, "TESRA_TOKEN": account["token"]}
        return cls(CommandLine(network.folder, **environ), name, account["token"])

    def project(self, source: str, name: str = "train.py", folder: str = "项目") -> str:
        """A project with one script; the way to its folder."""
        path = self.scripts / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
        return str(self.scripts / folder)

    def train(self, source: str, *arguments: str) -> "Trained":
        """Train a script of one file to its end, whatever that is."""
        folder = self.project(source, folder=f"项目 {uuid4().hex[:6]}")
        return self.watch("run", folder, "--entry", "train.py", *arguments)

    def watch(self, *arguments: str) -> "Trained":
        """Do what follows a run to its end."""
        done = self.commands.run(*arguments)
        assert "Traceback" not in done.stderr
        return Trained(done, self.commands.ask("show", "last"))


@dataclass
class Trained:
    """A run that has been followed to its end, and its record."""

    done: subprocess.CompletedProcess[str]
    record: dict[str, Any]

    @property
    def log(self) -> str:
        return self.done.stdout

    @property
    def told(self) -> str:
        return self.done.stderr
