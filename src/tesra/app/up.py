"""``tesra up``, ``down`` and ``status``: the whole network on this machine."""

import signal
import sys
import threading
from dataclasses import asdict
from typing import Any

from tesra.app.choices import Wish
from tesra.app.network import Network
from tesra.app.progress import EndAsked, Progress
from tesra.app.readiness import NotStarted, tail
from tesra.cli.output import Output
from tesra.cli.words import size
from tesra.kit.settings import Settings

WATCH_S = 1.0


INTERRUPTED = 130


def up(settings: Settings, wish: Wish, *, detach: bool, as_json: bool) -> None:
    """Start what is missing; then stay until Ctrl-C, or return at once when detached."""
    network = Network(settings)
    end_asked = _end_signals()
    try:
        with Progress(end_asked.is_set) as progress:
            begun = network.start(wish, progress)
    except EndAsked:
        sys.stderr.write("Stopped before it was ready.\n")
        raise SystemExit(INTERRUPTED) from None
    except NotStarted as error:
        sys.stderr.writelines(f"  {line}\n" for line in tail(error.log))
        raise
    _show_start(Output(as_json=as_json), network, begun, progress.elapsed_s)
    if detach or not begun:
        return
    if _stay(network, end_asked):
        sys.stderr.write("\nStopping\n")
        network.stop()


def down(settings: Settings, *, as_json: bool) -> None:
    """Stop everything that was started for this home."""
    _end_signals()  # half a stop helps nobody
    stopped = Network(settings).stop()
    home = str(settings.home.root)
    out = Output(as_json=as_json)
    said = f"Stopped: {', '.join(stopped)}" if stopped else "Nothing was running"
    out.answer({"home": home, "stopped": stopped}, lambda: out.say(f"{said} ({home})"))


def status(settings: Settings, *, as_json: bool) -> None:
    """What runs for this home, and whether runs can start."""
    network = Network(settings)
    choices = network.choices()
    answer = {
        "url": choices.url if choices else None,
        "home": str(settings.home.root),
        "ready": network.ready(),
        "processes": [asdict(row) for row in network.processes()],
        "nodes": [asdict(row) for row in network.nodes()],
        "peers": [asdict(row) for row in network.peers()],
    }
    out = Output(as_json=as_json)
    out.answer(answer, lambda: _show_status(out, answer))


def _show_status(out: Output, answer: dict[str, Any]) -> None:
    rows = [(row["name"], row["state"], str(row["pid"] or "")) for row in answer["processes"]]
    out.table(("process", "state", "pid"), rows, right={"pid"})
    nodes = [(row["name"], str(row["devices"]), str(row["free"])) for row in answer["nodes"]]
    if nodes:
        out.table(("node", "devices", "free"), nodes, right={"devices", "free"})
    peers = [
        (row["name"], row["state"], str(row["copies"]), size(row["used_bytes"]))
        for row in answer["peers"]
    ]
    if peers:
        out.table(("peer", "state", "copies", "stored"), peers, right={"copies", "stored"})
    if answer["ready"]:
        out.say(f"Ready at {answer['url']} ({answer['home']})")
    else:
        out.say(f"Not ready ({answer['home']}). Start what is missing: tesra up --detach")


def _show_start(out: Output, network: Network, begun: list[str], took_s: float) -> None:
    choices = network.choices()
    assert choices is not None
    answer = {
        "url": choices.url,
        "home": str(network.home.root),
        "operator_token": network.operator_token(),
        "started": begun,
    }

    def draw() -> None:
        how = (
            f"is ready at {choices.url} after {took_s:.0f} s"
            if begun
            else f"runs already at {choices.url}"
        )
        out.say(f"Tesra {how}")
        out.say("Make an account:  tesra register --name NAME")
        out.say("Train a project:  tesra run DIR --entry train.py --devices 2 --follow")
        out.say("Operator's token: tesra up --detach --json")

    out.answer(answer, draw)


def _stay(network: Network, end_asked: threading.Event) -> bool:
    """Watch what was started; True when asked to end, False when all has ended by itself."""
    sys.stderr.write("Ctrl-C stops everything.\n")
    told: set[str] = set()
    while not end_asked.wait(WATCH_S):
        rows = network.processes()
        gone = {row.name for row in rows if row.pid is None}
        if len(gone) == len(rows):
            return False
        if network.is_changing():
            continue
        for name in sorted(gone - told):
            sys.stderr.write(
                f"The {name} has ended; its log: {network.log_of(name)}\n"
                "Start it again, from another terminal: tesra up --detach\n"
            )
        told = gone
    return True


def _end_signals() -> threading.Event:
    """Set when somebody wants us to end; nothing is interrupted half-way."""
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, lambda *_: asked.set())
    return asked
