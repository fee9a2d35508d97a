"""What is on offer: devices, engines."""

from typing import TYPE_CHECKING

import typer

from tesra.cli import words
from tesra.cli.context import Session, connected
from tesra.cli.words import size

if TYPE_CHECKING:
    from tesra.wire.compute import DeviceClass
    from tesra.wire.training import Engine

PANEL = "Compute"
_FEW = 4


def register(app: typer.Typer) -> None:
    app.command("devices", rich_help_panel=PANEL, epilog="Example: tesra devices")(devices)
    app.command("engines", rich_help_panel=PANEL, epilog="Example: tesra engines")(engines)


@connected
def devices(session: Session) -> None:
    """List the device classes on offer: rating in T, free now, price per hour, on which nodes."""
    found = session.client.devices()
    session.out.answer(
        found,
        lambda: session.out.table(
            [
                "Class",
                "Rating (T)",
                "Free",
                "Total",
                "Largest gang",
                "CNY per device hour",
                "Nodes",
            ],
            [
                [
                    offer.device_class,
                    offer.rating_t,
                    str(offer.free),
                    str(offer.total),
                    str(offer.largest_gang),
                    offer.price_cny_per_hour,
                    _nodes(offer),
                ]
                for offer in found
            ],
            right=["Rating (T)", "Free", "Total", "Largest gang", "CNY per device hour"],
            empty="No devices are on offer now.",
        ),
    )


@connected
def engines(session: Session) -> None:
    """List the AI engines: versions, backends, and the nodes on which they start at once."""
    found = session.client.engines()
    session.out.answer(
        found,
        lambda: session.out.table(
            ["Engine", "Versions", "Backends", "Size", "Warm on"],
            [
                [
                    engine.name,
                    ", ".join(_versions(engine)),
                    ", ".join(engine.backends),
                    ", ".join(sorted({size(warm.size_bytes) for warm in engine.warm})),
                    ", ".join(_places(engine)),
                ]
                for engine in found
            ],
            right=["Size"],
        ),
    )


def _nodes(offer: "DeviceClass") -> str:
    """How many are free on each, while that fits on a line."""
    if len(offer.nodes) > _FEW:
        return words.plural(len(offer.nodes), "node")
    return ", ".join(f"{node.name} ({node.free} of {node.total} free)" for node in offer.nodes)


def _versions(engine: "Engine") -> list[str]:
    """The default first."""
    others = [version for version in engine.versions if version != engine.default]
    return [engine.default, *others]


def _places(engine: "Engine") -> list[str]:
    """Node by node, and which version or backend where there is a choice."""
    places = []
    for warm in engine.warm:
        choice = [warm.version] if len(engine.versions) > 1 else []
        choice += [warm.backend] if warm.backend else []
        places.append(f"{warm.node} ({' '.join(choice)})" if choice else warm.node)
    return places
