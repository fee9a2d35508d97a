"""``tesra node start``, ``tesra node peer``: what this machine gives to the server that it dials."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tesra.app.disk_beside import HERE, Place, disk_beside
from tesra.kit.errors import NotFound
from tesra.kit.settings import Settings
from tesra.kit.sizes import parse_disk


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
    disk: str | None = None
    place: Place = HERE


def start_node(settings: Settings, contribution: Contribution) -> None:
    """Offer the machine's devices until SIGTERM."""
    from tesra.node.main import run_site  # a storage peer does without all of a run's models

    token = _token(contribution.token_file, "site")
    settings.home.create()
    with _disk_of(settings, contribution):
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


def _disk_of(settings: Settings, contribution: Contribution) -> AbstractContextManager[None]:
    if contribution.disk is None:
        return nullcontext()
    return disk_beside(
        settings.home,
        contribution.server_url,
        contribution.token_file,
        contribution.disk,
        name=contribution.name,
        place=contribution.place,
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
    address: str = "127.0.0.1"
    site: str = ""
    identity: Path | None = None


def start_peer(disk: Disk) -> None:
    """Keep packs for others until SIGTERM."""
    from tesra.node.peer.main import machine_name, run_peer
    from tesra.node.peer.peer import PeerConfig

    run_peer(
        disk.folder.absolute(),
        PeerConfig(disk.name, machine_name(), disk.address, gateway=disk.gateway, site=disk.site),
        identity=disk.identity,
        capacity_bytes=parse_disk(disk.size),
        server_url=disk.server_url,
        token=_token(disk.token_file, "peer"),
    )


def _token(path: Path, whose: str) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise TokenFileMissing(
            f"There is no {whose} token in '{path}'.",
            way_out="Name the file that holds the one you were given: --token-file FILE",
        ) from error
