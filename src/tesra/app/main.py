"""The console script: the command line, with the commands that start processes hung on it.

What these commands need is imported when they run: every other command starts without it.
"""

import gc
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tesra.cli.main import build_cli
from tesra.kit.errors import Unavailable
from tesra.kit.settings import DEFAULT_PORT, read_settings

PANEL = "Network on this machine"
SERVER_NEEDS = ("uvicorn", "fastapi", "sqlalchemy", "psycopg", "procrastinate")
MAX_NODES = 16  # on one machine: each is another 300 MB of Ray
MAX_PEERS = 16  # each is another 60 MB
NODE_NEEDS = ("ray", "numpy")
PEER_NEEDS = ("libtorrent",)

Home = Annotated[
    Path | None,
    typer.Option("--home", help="The network's folder [TESRA_HOME].", show_default=False),
]
Devices = Annotated[
    int | None,
    typer.Option(
        "--devices",
        help="CPU slots to offer on a machine without a GPU, else GPUs: in all, not on each node.",
        show_default=False,
    ),
]
Nodes = Annotated[
    int | None,
    typer.Option(
        "--nodes",
        min=1,
        max=MAX_NODES,
        help="Nodes that share this machine; its devices are dealt evenly to them. [1]",
        show_default=False,
    ),
]
Peers = Annotated[
    int | None,
    typer.Option(
        "--peers",
        min=1,
        max=MAX_PEERS,
        help="Storage peers that share this machine; the drive keeps three copies. [3]",
        show_default=False,
    ),
]
Address = Annotated[
    str,
    typer.Option("--address", help="Where other storage peers reach this machine."),
]
SiteName = Annotated[
    str,
    typer.Option(
        "--site",
        help="Where the disk stands; copies are put at different sites where there are some.",
        show_default=False,
    ),
]
NoSandbox = Annotated[
    bool,
    typer.Option(
        "--no-sandbox",
        help="Run training scripts without a sandbox: they may then read and change all that you may.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Show the result as JSON.")]


class NotInstalled(Unavailable):
    """A part of Tesra is not installed here."""


def main() -> None:
    """The command line with everything on it."""
    app = build_cli()
    for command, example in (
        (up, "tesra up --devices 2 --detach"),
        (down, "tesra down"),
        (status, "tesra status --json"),
        (server, "tesra server --port 8420"),
    ):
        app.command(rich_help_panel=PANEL, epilog=f"Example: {example}")(command)
    node = typer.Typer(no_args_is_help=True)
    node.callback()(_node)
    node.command("start", epilog=f"Example: {NODE_EXAMPLE}")(node_start)
    node.command("peer", epilog=f"Example: {PEER_EXAMPLE}")(node_peer)
    node.command("warm", epilog="Example: tesra node warm pytorch mxnet")(node_warm)
    app.add_typer(node, name="node", rich_help_panel=PANEL, epilog=f"Example: {NODE_EXAMPLE}")
    try:
        app()
    finally:
        gc.freeze()  # what ends needs no look for garbage first: it would take 40 ms


def up(  # noqa: PLR0913 - each is one flag
    home: Home = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            help=f"Port of the server; 0 picks a free one. [{DEFAULT_PORT}]",
            show_default=False,
        ),
    ] = None,
    devices: Devices = None,
    nodes: Nodes = None,
    peers: Peers = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when all is ready.")
    ] = False,
    no_sandbox: NoSandbox = False,
    as_json: Json = False,
) -> None:
    """Start database, server, site and storage peers; what runs already is left alone."""
    _require("server", SERVER_NEEDS)
    _require("node", (*NODE_NEEDS, *PEER_NEEDS))
    from tesra.app import up as network
    from tesra.app.choices import Wish

    settings = read_settings(home=home)
    sandbox = False if no_sandbox else None
    wish = Wish(port=port, devices=devices, sandbox=sandbox, nodes=nodes, peers=peers)
    network.up(settings, wish, detach=detach, as_json=as_json)


def down(home: Home = None, as_json: Json = False) -> None:
    """Stop all that 'tesra up' has started; what is stored stays."""
    _require("server", SERVER_NEEDS)
    from tesra.app import up as network

    network.down(read_settings(home=home), as_json=as_json)


def status(home: Home = None, as_json: Json = False) -> None:
    """Show the processes, and whether runs can start."""
    _require("server", SERVER_NEEDS)
    from tesra.app import up as network

    network.status(read_settings(home=home), as_json=as_json)


def server(
    home: Home = None,
    host: Annotated[
        str | None,
        typer.Option("--host", help="Address to listen on. [127.0.0.1]", show_default=False),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", help=f"Port to listen on [TESRA_PORT]. [{DEFAULT_PORT}]", show_default=False
        ),
    ] = None,
) -> None:
    """Run the server alone, in this terminal; 'tesra up' starts it with all the rest."""
    _require("server", SERVER_NEEDS)
    from tesra.app.server import serve

    settings = read_settings(home=home, port=port)
    serve(replace(settings, host=host or settings.host))


NODE_EXAMPLE = "tesra node start --server http://127.0.0.1:8420 --token-file site.token"


def _node() -> None:
    """Offer this machine's devices to a network."""


def node_start(  # noqa: PLR0913 - each is one flag
    server_url: Annotated[str, typer.Option("--server", help="Address of the server.")],
    token_file: Annotated[
        Path, typer.Option("--token-file", help="File with the site's token, from the operator.")
    ],
    home: Home = None,
    devices: Devices = None,
    nodes: Nodes = None,
    name: Annotated[str, typer.Option("--name", help="The site's name.")] = "local",
    no_sandbox: NoSandbox = False,
    disk: Annotated[
        str | None,
        typer.Option(
            "--disk",
            help="Keep packs of the drive as well, up to this size: 50GB, 1.5TiB.",
            show_default=False,
        ),
    ] = None,
    address: Address = "127.0.0.1",
    site: SiteName = "",
) -> None:
    """Run the site controller in this terminal; 'tesra up' starts it with all the rest."""
    _require("node", NODE_NEEDS if disk is None else (*NODE_NEEDS, *PEER_NEEDS))
    from tesra.app.disk_beside import Place
    from tesra.app.node_command import Contribution, start_node

    start_node(
        read_settings(home=home),
        Contribution(
            server_url,
            token_file,
            devices=devices,
            sandbox=not no_sandbox,
            name=name,
            nodes=nodes or 1,
            disk=disk,
            place=Place(address, site),
        ),
    )


PEER_EXAMPLE = "tesra node peer --server URL --token-file peer.token --folder /disk --disk 50GB"


def node_peer(  # noqa: PLR0913 - each is one flag
    server_url: Annotated[str, typer.Option("--server", help="Address of the server.")],
    token_file: Annotated[
        Path, typer.Option("--token-file", help="File with the peers' token, from the operator.")
    ],
    folder: Annotated[Path, typer.Option("--folder", help="Where the packs are kept.")],
    disk: Annotated[str, typer.Option("--disk", help="How much to contribute: 50GB, 1.5TiB.")],
    name: Annotated[str, typer.Option("--name", help="What the operator sees.")] = "peer",
    gateway: Annotated[
        bool, typer.Option("--gateway", help="It is the one that the server writes to.")
    ] = False,
    address: Address = "127.0.0.1",
    site: SiteName = "",
    identity: Annotated[
        Path | None,
        typer.Option(
            "--identity",
            help="Keep who it is in this file, to be the same peer after the folder is lost.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run a storage peer in this terminal: it keeps encrypted packs and hands them to others."""
    _require("node", PEER_NEEDS)
    from tesra.app.node_command import Disk, start_peer

    start_peer(
        Disk(
            server_url,
            token_file,
            folder,
            disk,
            name=name,
            gateway=gateway,
            address=address,
            site=site,
            identity=identity,
        )
    )


def node_warm(
    engines: Annotated[
        list[str], typer.Argument(metavar="ENGINE", help="Such as pytorch or jax==VERSION.")
    ],
    backend: Annotated[
        str | None, typer.Option("--backend", help="For engines with several, such as keras.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Build the environments of AI engines on this machine, so that their first run starts at once."""
    _require("node", NODE_NEEDS)
    from tesra.app.warm_command import warm_node

    warm_node(read_settings(home=home), engines, backend, as_json=as_json)


def _require(extra: str, modules: Sequence[str]) -> None:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise NotInstalled(
            f"The {extra} part of Tesra is not installed here ({', '.join(missing)} missing).",
            way_out="Install all of it: pip install 'tesra[server,node]'",
        )


if __name__ == "__main__":
    main()
