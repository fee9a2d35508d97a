"""``tesra up``, ``down`` and ``status``: the whole network on this machine."""

import json
import signal
import sys
import threading
from dataclasses import asdict
from types import FrameType
from typing import Any

from rich.console import Console

from tesra.app.choices import Wish
from tesra.app.network import Network
from tesra.app.progress import Progress
from tesra.kit.errors import Unavailable
from tesra.kit.settings import Settings

WATCH_S = 1.0


class NetworkEnded(Unavailable):
    """The network has ended."""


class _Asked(BaseException):
    """Somebody wants us to end (Ctrl-C, SIGTERM)."""


def up(settings: Settings, wish: Wish, *, detach: bool, as_json: bool) -> None:
    """Start what is missing; then stay until Ctrl-C, or return at once when detached."""
    network = Network(settings)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _raise_asked)
    try:
        with Progress() as progress:
            begun = network.start(wish, progress)
        _show_start(network, settings, begun, as_json=as_json, took_s=progress.elapsed_s)
        if detach or not begun:
            return
        _stay(network)
    except _Asked:
        _ignore_signals()
        sys.stderr.write("\nStopping\n")
        network.stop()


def down(settings: Settings, *, as_json: bool) -> None:
    """Stop everything that was started for this home."""
    _ignore_signals()
    stopped = Network(settings).stop()
    if as_json:
        _print_json({"home": str(settings.home.root), "stopped": stopped})
    else:
        text = f"Stopped: {', '.join(stopped)}" if stopped else "Nothing was running"
        Console(highlight=False).print(f"{text} ({settings.home.root})", soft_wrap=True)


def status(settings: Settings, *, as_json: bool) -> None:
    """What runs for this home, and whether runs can start."""
    network = Network(settings)
    choices = network.choices()
    url = choices.url if choices else None
    rows, ready = network.processes(), network.ready()
    if as_json:
        _print_json(
            {
                "url": url,
                "home": str(settings.home.root),
                "ready": ready,
                "processes": [asdict(row) for row in rows],
            }
        )
        return
    console = Console(highlight=False)
    console.print(f"{'Ready' if ready else 'Not ready'}  {url or ''}  {settings.home.root}", soft_wrap=True)
    for row in rows:
        console.print(f"  {row.name:<10}{row.state:<10}{row.pid or ''}", soft_wrap=True)
    if not ready:
        console.print("Start what is missing: tesra up --detach", soft_wrap=True)


def _show_start(
    network: Network, settings: Settings, begun: list[str], *, as_json: bool, took_s: float
) -> None:
    choices = network.choices()
    assert choices is not None
    if as_json:
        _print_json(
            {
                "url": choices.url,
                "home": str(settings.home.root),
                "operator_token": network.operator_token(),
                "started": begun,
            }
        )
        return
    console = Console(highlight=False)
    if begun:
        console.print(f"Tesra is ready at [bold]{choices.url}[/bold] ({took_s:.0f} s)", soft_wrap=True)
    else:
        console.print(f"Tesra runs already at [bold]{choices.url}[/bold]", soft_wrap=True)
    where = f"--url {choices.url} " if choices.port else ""
    console.print(f"Make an account:  tesra register {where}--name NAME", soft_wrap=True)
    console.print("Train:            tesra run DIR --entry train.py --follow", soft_wrap=True)


def _stay(network: Network) -> None:
    """Watch what was started; end when `tesra down` elsewhere has stopped it all."""
    sys.stderr.write("Ctrl-C stops everything.\n")
    told: set[str] = set()
    tick = threading.Event()
    while True:
        tick.wait(WATCH_S)
        gone = {row.name for row in network.processes() if row.pid is None}
        if len(gone) == len(network.processes()):
            return
        for name in sorted(gone - told):
            sys.stderr.write(
                f"The {name} has ended; its log: {network.log_of(name)}\n"
                "Start it again, from another terminal: tesra up --detach\n"
            )
        told = gone


def _raise_asked(number: int, frame: FrameType | None) -> None:
    raise _Asked


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _print_json(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
    sys.stdout.flush()
