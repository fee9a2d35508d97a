"""What ``tesra up`` decides before it starts anything: pure, save for asking whether a port is free.

The choices of a home hold for as long as anything of it runs; a home at rest takes new ones.
"""

import json
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tesra.kit.errors import Conflict, Invalid
from tesra.kit.settings import DEFAULT_PORT

ANY_PORT = 0
MAX_PORT = 65_535
MAX_DEVICES = 1024
DEFAULT_PEERS = 3


class PortBusy(Conflict):
    """The port is in use by another program."""


class PortInvalid(Invalid):
    """A port is a number from 0 (any free one) to 65535."""


class DevicesInvalid(Invalid):
    """The number of devices is at least 1."""


class RunsOtherwise(Conflict):
    """This network runs already, with other settings."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asked for; None leaves it to the home, then to the default."""

    host: str | None = None
    port: int | None = None
    devices: int | None = None
    sandbox: bool | None = None
    nodes: int | None = None
    peers: int | None = None


@dataclass(frozen=True, slots=True)
class Choices:
    """What holds for a home; ``devices`` None means all GPUs, or the default number of CPU slots.

    ``devices`` are those of all ``nodes`` together; the first of the storage ``peers`` is the gateway.
    """

    host: str
    port: int
    devices: int | None
    sandbox: bool
    nodes: int = 1
    peers: int = DEFAULT_PEERS

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def load_choices(path: Path) -> Choices | None:
    """What an earlier ``tesra up`` chose for this home."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Choices(
        row["host"],
        row["port"],
        row["devices"],
        row["sandbox"],
        row.get("nodes", 1),
        row.get("peers", DEFAULT_PEERS),
    )


def render_choices(choices: Choices) -> str:
    """The text of ``config.json``."""
    return json.dumps({"url": choices.url, **asdict(choices)}, indent=2) + "\n"


def choose(
    wish: Wish,
    remembered: Choices | None,
    *,
    fixed: bool,
    port_is_free: Callable[[str, int], bool],
    free_port: Callable[[str], int],
) -> Choices:
    """Settle the choices; ``fixed`` says that server or site run, so that nothing may change.

    Raises ``RunsOtherwise``, ``PortInvalid``, ``DevicesInvalid``. A busy port is found later, by
    whoever starts the server.
    """
    _check(wish)
    if fixed and remembered is not None:
        _refuse_change(wish, remembered)
        return remembered
    host = wish.host or (remembered.host if remembered else "127.0.0.1")
    port = wish.port if wish.port is not None else (remembered.port if remembered else DEFAULT_PORT)
    if port == ANY_PORT:
        again = remembered is not None and port_is_free(host, remembered.port)
        port = remembered.port if remembered and again else free_port(host)
    kept = remembered or Choices(host, port, devices=None, sandbox=True)
    choices = Choices(
        host,
        port,
        devices=kept.devices if wish.devices is None else wish.devices,
        sandbox=kept.sandbox if wish.sandbox is None else wish.sandbox,
        nodes=kept.nodes if wish.nodes is None else wish.nodes,
        peers=kept.peers if wish.peers is None else wish.peers,
    )
    if choices.devices is not None and choices.devices < choices.nodes:
        raise DevicesInvalid(
            f"{choices.devices} devices cannot be shared out to {choices.nodes} nodes.",
            way_out="Each node needs one: give more --devices, or fewer --nodes.",
        )
    return choices


def _check(wish: Wish) -> None:
    if wish.port is not None and not 0 <= wish.port <= MAX_PORT:
        raise PortInvalid(f"{wish.port} is not a port: take 0 (any free one) to {MAX_PORT}.")
    if wish.devices is not None and not 1 <= wish.devices <= MAX_DEVICES:
        raise DevicesInvalid(f"{wish.devices} is not a number of devices: 1 to {MAX_DEVICES}.")


def _refuse_change(wish: Wish, remembered: Choices) -> None:
    wanted: dict[str, tuple[str | int | None, str | int | None]] = {
        "--host": (wish.host, remembered.host),
        "--port": (wish.port or None, remembered.port),
        "--devices": (wish.devices, remembered.devices),
        "--nodes": (wish.nodes, remembered.nodes),
        "--peers": (wish.peers, remembered.peers),
        "--no-sandbox": (wish.sandbox, remembered.sandbox),
    }
    for flag, (asked, present) in wanted.items():
        if asked is not None and asked != present:
            raise RunsOtherwise(
                f"This network runs already at {remembered.url}, with another {flag}"
                f" ({_shown(present)}).",
                way_out="Stop it first: tesra down",
            )


def _shown(value: str | int | None) -> str:
    return "the machine's own" if value is None else str(value)


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    try:
        _bind(host, port)
    except OSError:
        return False
    return True


def free_port(host: str) -> int:
    """A port that nobody listens on."""
    return _bind(host, ANY_PORT)


def require_free(choices: Choices) -> None:
    """Refuse to start a server where another program listens."""
    if not port_is_free(choices.host, choices.port):
        raise PortBusy(
            f"Port {choices.port} on {choices.host} is in use by another program.",
            way_out="Choose another: tesra up --port N, or --port 0 for any free one",
        )


def _bind(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        bound: int = probe.getsockname()[1]
        return bound
