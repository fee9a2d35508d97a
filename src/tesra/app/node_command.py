"""``tesra node start``: this machine as a site, for the server that it dials."""

from dataclasses import dataclass
from pathlib import Path

from tesra.kit.errors import NotFound
from tesra.kit.settings import Settings
from tesra.node.main import run_site


class TokenFileMissing(NotFound):
    """The file with the site's token is not there."""


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
    path = contribution.token_file
    try:
        token = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise TokenFileMissing(
            f"There is no site token in '{path}'.",
            way_out="Name the file that holds the one you were given: --token-file FILE",
        ) from error
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
