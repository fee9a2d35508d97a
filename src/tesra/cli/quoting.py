"""What a run costs, said before it starts and while it runs."""

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tesra.cli import words
from tesra.cli.context import Session
from tesra.kit.errors import TesraError

if TYPE_CHECKING:
    from tesra.wire.training import Run

_OF_A_QUOTE = ("devices", "device_class", "launch", "max_cost_cny", "max_time_s")


def show_quote(session: Session, wishes: Mapping[str, Any]) -> None:
    """The whole quote; nothing is started."""
    quote = session.client.quote(**_asked(wishes))

    def draw() -> None:
        for line in quote.lines:
            session.out.say(line)

    session.out.answer(quote, draw)


def tell_rate(session: Session, wishes: Mapping[str, Any], started: "Run") -> None:
    """One line beside a run that has been submitted; without an answer it goes on just the same."""
    with contextlib.suppress(TesraError):
        quote = session.client.quote(**_asked({**wishes, "launch": started.launch}))
        session.out.aside(f"tesra: {quote.line}")


def forecast_facts(run: "Run") -> list[tuple[str, str]]:
    """What a live run has cost, and will have, as far as that can be known."""
    found = run.forecast
    if found is None:
        return []
    facts = [("Cost so far", words.money(found.cost_so_far))]
    if found.finish_at is not None:
        end = f"about {words.moment(found.finish_at)}, {words.money(found.cost_to_finish)} more"
        at_cap = "; its cap comes first" if found.ends_at_cap else ""
        facts.append(("Would end", f"{end} ({found.based_on}){at_cap}"))
    return facts


def _asked(wishes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: wishes[name] for name in _OF_A_QUOTE if wishes.get(name) is not None}
