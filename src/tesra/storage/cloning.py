"""A git repository's newest commit as a folder: nothing of it runs, and it is bounded.

No hooks, no submodules, no filters of the repository's own, no question at a terminal. On a
server no transport but the two of the web, and nobody's credentials; on a user's own machine
whatever that user's git can reach.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from tesra.kit.addresses import is_public
from tesra.kit.errors import Invalid, Unavailable

_POLL_S = 0.1
_SCHEMES = {"https": 443, "http": 80}  # and where they are spoken
_OWN_SCHEMES = ("https", "http", "ssh", "git", "file")
_OWN_URL = re.compile(rf"({'|'.join(_OWN_SCHEMES)})://[^-].*|[\w.+]+@[\w.][\w.-]*:[^:].*")


class GitUrlRefused(Invalid):
    """Only https:// and http:// addresses of git repositories can be imported."""


class GitMissing(Unavailable):
    """There is no git on this machine."""


class CloneFailed(Invalid):
    """The repository can't be cloned."""


@dataclass(frozen=True, slots=True)
class CloneLimits:
    """What a clone may take; ``private``: also from the server's own side of the network."""

    size_bytes: int = 5 * 2**30
    time_s: float = 600.0
    private: bool = False


def check_git_url(url: str) -> str:
    """The URL, when it is one that may be cloned; ssh, file and local paths are not."""
    parts = urlsplit(url.strip())
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise GitUrlRefused(way_out="Give an https:// address, or import a local folder.")
    if any(ord(character) <= 32 for character in url.strip()):
        raise GitUrlRefused("The address holds a blank or a control character.")
    return url.strip()


def check_own_url(url: str) -> str:
    """The URL, when it is one that a user's own git may clone for that user."""
    if not _OWN_URL.fullmatch(url.strip()):
        raise GitUrlRefused(
            f"'{url}' is not the address of a git repository.",
            way_out="Say it like https://host/name.git, git@host:name.git or file:///folder.git.",
        )
    return url.strip()


def repository_name(url: str) -> str:
    """What a repository is called: the last part of its address."""
    last = re.split("[/:]", unquote(urlsplit(url).path).rstrip("/"))[-1]
    return last.removesuffix(".git") or "repository"


def is_bare_repository(folder: Path) -> bool:
    """Whether the folder is what ``git clone --bare`` makes, rather than a project."""
    return (folder / "HEAD").is_file() and all(
        (folder / part).is_dir() for part in ("objects", "refs")
    )


def clone(url: str, dest: Path, limits: CloneLimits | None = None) -> None:
    """``git clone --depth 1`` into the new folder ``dest``; blocks, at most ``limits.time_s``.

    For a server: web addresses alone, those that were checked, without anybody's configuration.
    """
    limits, checked = limits or CloneLimits(), check_git_url(url)
    options = ["credential.helper=", "http.followRedirects=false"]
    options += [] if limits.private else _pinned(urlsplit(checked))
    environ = _environment(os.environ, dest.parent)
    _clone([checked, str(dest)], _allowed(_SCHEMES) + options, environ, limits)


def clone_own(url: str, dest: Path, limits: CloneLimits | None = None) -> None:
    """The same for a user on the user's own machine, with that user's keys and configuration."""
    environ = {"GIT_SSH_COMMAND": "ssh -oBatchMode=yes", **os.environ, **_QUIET}
    _clone([check_own_url(url), str(dest)], _allowed(_OWN_SCHEMES), environ, limits)


def _pinned(parts: SplitResult) -> list[str]:
    """Options for git to call just those addresses of the host that are public now.

    Raises ``GitUrlRefused`` when one is not. Behind a proxy it is the proxy's to look them up.
    """
    host = parts.hostname or ""
    if parts.scheme in getproxies() and not proxy_bypass(host):
        return []
    try:
        port = parts.port or _SCHEMES[parts.scheme]
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise CloneFailed(
            f"There is no address of {host}.", way_out="Is the address right, and may you read it?"
        ) from error
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    if not all(is_public(address) for address in addresses):
        raise GitUrlRefused(
            f"{host} is an address inside the server's own network.",
            way_out="Clone it yourself and import the folder; the operator can allow private "
            "addresses: TESRA_GIT_PRIVATE=1.",
        )
    shown = ",".join(f"[{one}]" if ":" in one else one for one in addresses)
    return [f"http.curloptResolve={host}:{port}:{shown}"]


NO_SHALLOW = "dumb http transport does not support shallow"  # a plain file server
_QUIET = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1"}
_HARMLESS = ("core.hooksPath=/dev/null", "core.fsmonitor=false", "core.symlinks=true")


def _allowed(schemes: Iterable[str]) -> list[str]:
    always = [f"protocol.{scheme}.allow=always" for scheme in sorted(schemes)]
    return ["protocol.allow=never", *always]


def _clone(
    place: list[str], options: list[str], environ: Mapping[str, str], limits: CloneLimits | None
) -> None:
    git = shutil.which("git")
    if git is None:
        raise GitMissing(way_out="Install git, or import a folder or an archive.")
    command = [git]
    for option in (*_HARMLESS, *options):
        command += ["-c", option]
    command += ["clone", "--quiet", "--single-branch", "--no-tags"]
    command += ["--no-recurse-submodules", "--template="]
    dest, limits = Path(place[-1]), limits or CloneLimits()
    try:
        _run([*command, "--depth", "1", "--", *place], dest, environ, limits)
    except CloneFailed as error:
        if NO_SHALLOW not in error.detail:
            raise
        _run([*command, "--", *place], dest, environ, limits)


def _run(command: list[str], dest: Path, environ: Mapping[str, str], limits: CloneLimits) -> None:
    said = dest.with_name(f"{dest.name}.said")
    with said.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=environ,
            start_new_session=True,
        )
    try:
        _watch(process, dest, limits)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode != 0:
        lines = said.read_text(errors="replace").strip().splitlines()
        words = [line for line in lines if line.startswith("fatal:")] or lines
        why = words[-1][:300].rstrip(".") if words else f"exit code {process.returncode}"
        raise CloneFailed(
            f"git could not clone it: {why}.", way_out="Is the address right, and may you read it?"
        )


def _watch(process: subprocess.Popen[bytes], dest: Path, limits: CloneLimits) -> None:
    deadline = time.monotonic() + limits.time_s
    checked_at = time.monotonic()
    while True:
        try:
            process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            pass
        else:
            break
        now = time.monotonic()
        if now > deadline:
            raise CloneFailed(f"Cloning took more than {limits.time_s:g} s.")
        if now - checked_at > 1.0:
            _check_size(dest, limits)
            checked_at = now
    _check_size(dest, limits)


def _check_size(dest: Path, limits: CloneLimits) -> None:
    total = 0
    for folder, _, names in os.walk(dest):
        for name in names:
            try:
                total += Path(folder, name).lstat().st_size
            except FileNotFoundError:
                continue  # git renames as it goes
    if total > limits.size_bytes:
        raise CloneFailed(f"The repository is larger than {limits.size_bytes // 2**20} MiB.")


def _environment(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Nobody's configuration and credentials; the way to the network stays."""
    kept: tuple[str, ...] = (
        "PATH",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "HTTPS_PROXY",
        "HTTP_PROXY",
    )
    kept += ("NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO")
    return {
        **{name: environ[name] for name in kept if name in environ},
        "HOME": str(home),
        **_QUIET,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ASKPASS": "true",
    }
