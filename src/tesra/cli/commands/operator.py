"""The operator's commands: topup, voucher issue. Prices stand with the bills."""

from typing import Annotated

import typer

from tesra.cli import words
from tesra.cli.context import Session, connected

PANEL = "Operator"


def register(app: typer.Typer) -> None:
    app.command("topup", rich_help_panel=PANEL, epilog="Example: tesra topup ann 100")(topup)
    group = typer.Typer(
        no_args_is_help=True,
        help="Make vouchers (operator).",
        epilog="Example: tesra voucher issue --amount 10 --for ann",
    )
    group.callback()(_vouchers)
    group.command("issue", epilog="Example: tesra voucher issue --amount 10 --for ann")(issue)
    app.add_typer(group, name="voucher", rich_help_panel=PANEL)
    limits = typer.Typer(
        no_args_is_help=True,
        help="Look after users (operator).",
        epilog="Example: tesra operator limit ann 500",
    )
    limits.callback()(_operator)
    limits.command("limit", epilog="Example: tesra operator limit ann 500")(limit)
    limits.command(
        "second-factor-off",
        epilog="Example: tesra operator second-factor-off ann --note 'lost phone; called back'",
    )(second_factor_off)
    limits.command("events", epilog="Example: tesra operator events ann")(events)
    app.add_typer(limits, name="operator", rich_help_panel=PANEL)


def _vouchers() -> None:
    """Make vouchers (operator)."""


def _operator() -> None:
    """Look after users (operator)."""


@connected
def limit(
    session: Session,
    user: Annotated[str, typer.Argument(metavar="USER", help="The user's name.")],
    amount: Annotated[
        str, typer.Argument(metavar="CNY", help="Yuan, e.g. 500; `default` for the network's own.")
    ],
) -> None:
    """Set how much a user's runs may come to owe before they are paid."""
    holds = session.client.set_limit(user, None if amount == "default" else amount)
    session.out.answer(
        holds,
        lambda: session.out.say(
            f"{holds.user}'s runs may come to owe CNY {holds.limit_cny},"
            " beside what vouchers and wallet hold."
        ),
    )


@connected
def second_factor_off(
    session: Session,
    user: Annotated[str, typer.Argument(metavar="USER", help="The user's name.")],
    *,
    note: Annotated[str, typer.Option("--note", help="Why, and how you knew who asked; kept.")],
) -> None:
    """Turn off the second factor of a user who lost the phone and the recovery codes."""
    session.client.second_factor_off_for(user, note)
    session.out.answer(
        {"user": user, "on": False},
        lambda: session.out.say(f"{user} signs in with the password alone now."),
    )


@connected
def events(
    session: Session,
    user: Annotated[str, typer.Argument(metavar="USER", help="The user's name.")],
) -> None:
    """Show what happened to a user's password and second factor, and by whom."""
    found = session.client.account_events_of(user)
    session.out.answer(
        found,
        lambda: session.out.table(
            ["When", "What", "By", "Note"],
            [
                [words.moment(one.at), one.kind.replace("_", " "), one.actor, one.note or "-"]
                for one in found
            ],
            empty="Nothing happened to this account yet.",
        ),
    )


@connected
def topup(
    session: Session,
    user: Annotated[str, typer.Argument(metavar="USER", help="The user's name.")],
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="Yuan, e.g. 100 or 0.50.")],
) -> None:
    """Put money into a user's wallet."""
    made = session.client.top_up(user, amount)
    session.out.answer(
        made, lambda: session.out.say(f"{made.user}'s wallet has CNY {made.amount_cny} more.")
    )


@connected
def issue(
    session: Session,
    *,
    amount: Annotated[str, typer.Option("--amount", help="Its worth in yuan.")],
    for_user: Annotated[
        str | None, typer.Option("--for", metavar="USER", help="Only this user may redeem it.")
    ] = None,
    days: Annotated[int, typer.Option("--days", min=1, help="Valid for so many days.")] = 365,
) -> None:
    """Make a voucher; its code is shown this once."""
    made = session.client.issue_voucher(amount, for_user=for_user, days=days)
    session.out.answer(
        made,
        lambda: session.out.facts(
            [
                ("Code", made.code),
                ("Worth", words.money(made.amount_cny)),
                ("For", made.for_user or "anybody"),
                ("Until", words.moment(made.expires_at)),
            ]
        ),
    )
