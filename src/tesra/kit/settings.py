"""Settings: frozen, read once at start-up from the environment; flags override them.

Paths below a home are methods of ``Home``, so that no other module invents a file name.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from tesra.kit.errors import Invalid


class SettingInvalid(Invalid):
    """A setting in the environment is not valid."""


@dataclass(frozen=True, slots=True)
class Home:
    """The folder that one network on one machine lives in; everything in it is private (0700)."""

    root: Path

    @property
    def config(self) -> Path:
        """What ``tesra up`` chose: port, devices, nodes (JSON)."""
        return self.root / "config.json"

    @property
    def processes(self) -> Path:
        """The processes that ``tesra up`` started: name, pid, start time (JSON)."""
        return self.root / "processes.json"

    @property
    def keys(self) -> Path:
        """Master key, database passwords, operator and site credentials; files are 0600."""
        return self.root / "keys"

    @property
    def database(self) -> Path:
        """The embedded PostgreSQL's own tree: ``data`` and nothing secret of ours."""
        return self.root / "postgres"

    def peer(self, number: int) -> Path:
        """A storage peer's folder; the first is the gateway, which the server writes to."""
        return self.root / f"peer-{number}"

    def peer_identity(self, number: int) -> Path:
        """Who the peer is: it stays the same one when its folder is lost."""
        return self.keys / f"peer-{number}.json"

    @property
    def uploads(self) -> Path:
        """What browsers have sent so far of uploads that are not finished."""
        return self.root / "uploads"

    @property
    def packs(self) -> Path:
        """The gateway's packs."""
        return self.peer(1) / "packs"

    @property
    def site(self) -> Path:
        """The site controller's state (spool, Ray), and that of its first node."""
        return self.root / "site"

    def node(self, place: int) -> Path:
        """A node's own state: identity, workspaces, outputs; ``place`` counts from 0."""
        return self.site if place == 0 else self.site / "nodes" / str(place)

    def nodes(self) -> list[Path]:
        """The folders of the nodes that were ever started here, the first's first."""
        further = (self.site / "nodes").glob("*")
        return [self.site, *sorted(further, key=lambda folder: int(folder.name))]

    @property
    def engines(self) -> Path:
        """The operator's own AI engines (TOML), beside those that ship with Tesra; need not exist."""
        return self.root / "engines"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def create(self) -> None:
        """Make the folders, private to their owner."""
        for folder in (self.root, self.keys, self.packs, self.uploads, self.site, self.logs):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a server process needs to know about where it runs."""

    home: Home
    cache: Path
    database_url: str | None = None
    host: str = "127.0.0.1"
    port: int = 8420
    welcome_voucher_micros: int = 5_000_000
    welcome_voucher_days: int = 365
    quota_bytes: int = 10 * 2**30
    exposure_limit_micros: int = 100_000_000
    smtp_url: str | None = field(default=None, repr=False)  # it may hold a password
    webhook_private: bool = False
    git_private: bool = False
    registrations_per_hour: int = 60


DEFAULT_PORT = 8420
MEASURING = "measuring"  # a folder of the site's that exists while GPUs are rated, which takes long


def default_home(environ: Mapping[str, str] = os.environ) -> Path:
    """``TESRA_HOME``, else the user's data folder."""
    value = environ.get("TESRA_HOME")
    return (
        Path(value).expanduser().absolute() if value else Path(platformdirs.user_data_dir("tesra"))
    )


def default_cache(environ: Mapping[str, str] = os.environ) -> Path:
    """``TESRA_CACHE``, else the user's cache folder; shared by all homes."""
    value = environ.get("TESRA_CACHE")
    return (
        Path(value).expanduser().absolute() if value else Path(platformdirs.user_cache_dir("tesra"))
    )


def read_settings(
    *, home: Path | None = None, port: int | None = None, environ: Mapping[str, str] = os.environ
) -> Settings:
    """Settings of this process: arguments before the environment before the defaults."""
    return Settings(
        home=Home((home or default_home(environ)).absolute()),
        cache=default_cache(environ),
        database_url=environ.get("TESRA_DATABASE_URL") or None,
        host=environ.get("TESRA_HOST", "127.0.0.1"),
        port=port if port is not None else _number(environ, "TESRA_PORT", DEFAULT_PORT),
        welcome_voucher_micros=_number(environ, "TESRA_WELCOME_VOUCHER_MICROS", 5_000_000),
        quota_bytes=_number(environ, "TESRA_QUOTA_BYTES", 10 * 2**30),
        exposure_limit_micros=_number(environ, "TESRA_EXPOSURE_LIMIT_MICROS", 100_000_000),
        smtp_url=environ.get("TESRA_SMTP_URL") or None,
        git_private=environ.get("TESRA_GIT_PRIVATE", "") == "1",
        webhook_private=environ.get("TESRA_WEBHOOK_PRIVATE", "") == "1",
        registrations_per_hour=_number(environ, "TESRA_REGISTRATIONS_PER_HOUR", 60, least=1),
    )


def _number(environ: Mapping[str, str], name: str, default: int, *, least: int = 0) -> int:
    text = environ.get(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit()):
        raise SettingInvalid(
            f"{name}={text} is not a whole number.", way_out="Correct it, or unset it."
        )
    if int(text) < least:
        raise SettingInvalid(f"{name} is at least {least}.", way_out="Correct it, or unset it.")
    return int(text)
