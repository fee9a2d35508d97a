"""``tesra node start``, ``tesra node peer``: what this machine gives to the server that it dials."""

from dataclasses import dataclass
from pathlib import Path

from tesra.kit.errors import NotFound
from tesra.kit.settings import Settings
from tesra.kit.sizes import parse_size


class TokenFileMissing(NotFound):
    """The file with the token is not there."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """What this machine gives, and to whom."""

    server_url: str
    token_file: Path
    devices: int | None = None
    sandbox: bool = True
    name: str = "local"
    nodes: int = 1


def start_node(settings: Settings, contribution: Contribution) -> None:
    """Offer the machine's devices until SIGTERM."""
    from tesra.node.main import run_site  # a storage peer does without all of a run's models

    token = _token(contribution.token_file, "site")
    settings.home.create()
    run_site(
        home=settings.home,
        cache=settings.cache,
        server_url=contribution.server_url,
        site_token=token,
        devices=contribution.devices,
        sandbox=contribution.sandbox,
        name=contribution.name,
        nodes=contribution.nodes,
    )


@dataclass(frozen=True, slots=True)
class Disk:
    """What a storage peer is told; ``size`` as a person writes it."""

    server_url: str
    token_file: Path
    folder: Path
    size: str
    name: str = "peer"
    gateway: bool = False


def start_peer(disk: Disk) -> None:
    """Keep packs for others until SIGTERM."""
    from tesra.node.peer.main import run_peer

    run_peer(
        disk.folder.absolute(),
        capacity_bytes=parse_size(disk.size),
        server_url=disk.server_url,
        token=_token(disk.token_file, "peer"),
        name=disk.name,
        gateway=disk.gateway,
    )


def _token(path: Path, whose: str) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise TokenFileMissing(
            f"There is no {whose} token in '{path}'.",
            way_out="Name the file that holds the one you were given: --token-file FILE",
        ) from error
