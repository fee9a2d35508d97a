"""Money: bills, bill, pay, wallet, autopay, redeem, prices."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tesra.cli import words
from tesra.cli.context import Session, connected
from tesra.cli.finding import find_bill
from tesra.kit.errors import Invalid
from tesra.kit.money import format_micros

if TYPE_CHECKING:
    from tesra.wire.billing import Bill, BillLine, Wallet

PANEL = "Billing"
BillRef = Annotated[
    str,
    typer.Argument(metavar="BILL", help="A bill's id, its beginning or end, its run, or `last`."),
]


class NothingToSet(Invalid):
    """--from says when a price begins: give the price with --set."""


def register(app: typer.Typer) -> None:
    def add(name: str, example: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
        return app.command(name, rich_help_panel=PANEL, epilog=f"Example: {example}")

    add("bills", "tesra bills")(bills)
    add("bill", "tesra bill last")(bill)
    add("pay", "tesra pay last --voucher CODE")(pay)
    add("wallet", "tesra wallet")(wallet)
    add("autopay", "tesra autopay on")(autopay)
    add("redeem", "tesra redeem CODE")(redeem)
    add("prices", "tesra prices --set 0.6 --from 2027-01-01")(prices)


@connected
def bills(
    session: Session,
    *,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many.")] = None,
) -> None:
    """List your bills, newest first."""
    found = session.client.bills(limit)
    session.out.answer(
        found,
        lambda: session.out.table(
            ["Bill", "Run", "State", "CNY", "T·H", "Made"],
            [
                [
                    one.id,
                    one.run,
                    one.state,
                    one.amount_cny,
                    one.th,
                    words.moment(one.created_at),
                ]
                for one in found
            ],
            right=["CNY", "T·H"],
            empty="No bills yet.",
        ),
    )


@connected
def bill(session: Session, which: BillRef) -> None:
    """Explain a bill: every line in words and numbers, the sum, and how it was paid."""
    found = session.client.bill(find_bill(session.client, which))
    session.out.answer(found, lambda: _explain(session, found))


@connected
def pay(
    session: Session,
    which: BillRef,
    *,
    voucher: Annotated[
        str | None, typer.Option("--voucher", metavar="CODE", help="Redeem this voucher first.")
    ] = None,
) -> None:
    """Pay a bill: from vouchers first, then from the wallet."""
    paid = session.client.pay(find_bill(session.client, which), voucher)
    parts = ", ".join(
        f"CNY {part.amount_cny} from {_source(part.source)}" for part in paid.payments
    )
    session.out.answer(
        paid,
        lambda: session.out.say(
            f"{paid.id} is {paid.state}: {words.money(paid.amount_cny)}{f' ({parts})' if parts else ''}."
        ),
    )


@connected
def wallet(session: Session) -> None:
    """Show your balance, vouchers, what is unpaid, and the last postings."""
    found = session.client.wallet()
    session.out.answer(found, lambda: _show_wallet(session, found))


@connected
def autopay(
    session: Session,
    switch: Annotated[Literal["on", "off"], typer.Argument(metavar="on|off")],
) -> None:
    """Whether bills are paid by themselves when a run ends."""
    found = session.client.autopay(on=switch == "on")
    session.out.answer(found, lambda: session.out.say(f"Autopay is {switch}."))
    if found.autopay and float(found.unpaid_cny):
        session.out.aside(
            f"tesra: what is unpaid already (CNY {found.unpaid_cny}) stays so: see `tesra bills`."
        )


@connected
def redeem(
    session: Session,
    code: Annotated[str, typer.Argument(metavar="CODE", help="The voucher's code.")],
) -> None:
    """Put a voucher into your balance."""
    found = session.client.redeem(code)
    session.out.answer(
        found,
        lambda: session.out.say(f"Redeemed. You have CNY {found.vouchers_cny} in vouchers."),
    )


@connected
def prices(
    session: Session,
    *,
    new: Annotated[
        str | None, typer.Option("--set", metavar="CNY", help="New price of one T·H (operator).")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option("--from", help="When it begins, in local time; default: now."),
    ] = None,
) -> None:
    """List the prices of one T·H; with --set, add one (operator)."""
    if since is not None and new is None:
        raise NothingToSet
    if new is not None:
        at = since.astimezone() if since else None
        session.client.set_price(new, effective_from=at)
    found = session.client.prices()
    session.out.answer(
        found,
        lambda: session.out.table(
            ["CNY per T·H", "From", "Now"],
            [
                [
                    price.price_cny_per_th,
                    words.moment(price.effective_from),
                    "yes" if price.current else "",
                ]
                for price in found
            ],
            right=["CNY per T·H"],
        ),
    )


def _whose(line: "BillLine") -> str:
    attempt = f"attempt {line.attempt}"
    return attempt if line.trial is None else f"trial {line.trial} ({line.run}), {attempt}"


def explain(line: "BillLine") -> str:
    """A line so that anyone can recompute it."""
    return (
        f"{_whose(line)}, {words.moment(line.started_at)} to {words.moment(line.ended_at)}: "
        f"{words.plural(line.devices, 'device')} {line.device_class} x "
        f"{format_micros(line.rating_micro_t)} T x {line.duration_ms / 1000:.3f} s / 3600 "
        f"= {line.th} T·H; x CNY {line.price_cny} a T·H = CNY {format_micros(line.amount_micros)}"
    )


def _explain(session: Session, bill: "Bill") -> None:
    out = session.out
    out.facts([("Bill", bill.id), ("Run", bill.run), ("State", bill.state), ("T·H", bill.th)])
    for line in bill.lines:
        out.say(f"  {explain(line)}")
    exact = format_micros(sum(line.amount_micros for line in bill.lines))
    if bill.lines:
        out.say(f"Sum: CNY {exact}, rounded up to the fen: CNY {bill.amount_cny}")
    else:
        out.say(f"Sum: CNY {bill.amount_cny} (no device time was used)")
    if bill.note:
        out.say(bill.note)
    for part in bill.payments:
        out.say(f"Paid CNY {part.amount_cny} from {_source(part.source)}, {words.moment(part.at)}")
    if bill.state == "unpaid":
        out.aside(f"Pay it: tesra pay {bill.id}")


def _show_wallet(session: Session, wallet: "Wallet") -> None:
    out = session.out
    out.facts(
        [
            ("Balance", words.money(wallet.balance_cny)),
            ("Vouchers", words.money(wallet.vouchers_cny)),
            ("Unpaid", words.money(wallet.unpaid_cny)),
            ("Autopay", "on" if wallet.autopay else "off"),
        ]
    )
    if wallet.vouchers:
        out.table(
            ["Voucher", "Left (CNY)", "Of", "Until", "From"],
            [
                [
                    words.short(one.id),
                    one.remaining_cny,
                    one.amount_cny,
                    words.moment(one.expires_at),
                    one.origin,
                ]
                for one in wallet.vouchers
            ],
            right=["Left (CNY)", "Of"],
        )
    if wallet.entries:
        out.table(
            ["When", "What", "CNY", "Memo"],
            [[words.moment(one.at), one.kind, one.amount_cny, one.memo] for one in wallet.entries],
            right=["CNY"],
        )


def _source(source: str) -> str:
    return "vouchers" if source == "voucher" else "the wallet"
