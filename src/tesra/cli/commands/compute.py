"""What is on offer: devices, engines."""

import typer

from tesra.cli.context import Session, connected

PANEL = "Compute"


def register(app: typer.Typer) -> None:
    app.command("devices", rich_help_panel=PANEL, epilog="Example: tesra devices")(devices)
    app.command("engines", rich_help_panel=PANEL, epilog="Example: tesra engines")(engines)


@connected
def devices(session: Session) -> None:
    """List the device classes on offer: rating in T, free now, price per hour."""
    found = session.client.devices()
    session.out.answer(
        found,
        lambda: session.out.table(
            ["Class", "Rating (T)", "Free", "Total", "Largest gang", "CNY per device hour"],
            [
                [
                    offer.device_class,
                    offer.rating_t,
                    str(offer.free),
                    str(offer.total),
                    str(offer.largest_gang),
                    offer.price_cny_per_hour,
                ]
                for offer in found
            ],
            right=["Rating (T)", "Free", "Total", "Largest gang", "CNY per device hour"],
            empty="No devices are on offer now.",
        ),
    )


@connected
def engines(session: Session) -> None:
    """List the AI engines and their versions."""
    found = session.client.engines()
    session.out.answer(
        found,
        lambda: session.out.table(
            ["Engine", "Versions", "Default"],
            [[engine.name, ", ".join(engine.versions), engine.default] for engine in found],
        ),
    )
