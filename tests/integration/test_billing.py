"""Billing on a real PostgreSQL: bills, payment, vouchers, races, and what the database refuses."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from factories.billing import HOUR_MS, ONE_T, SteppedClock, usage
from factories.identity import client_of, identity_service, register, services_on
from tesra.billing.model import (
    AccountMissing,
    Bill,
    BillMissing,
    InsufficientFunds,
    Part,
    PriceConflict,
    PriceInvalid,
    ReversalRefused,
    TopUpConflict,
    UsageConflict,
    VoucherExpired,
    VoucherSpent,
    VoucherUnknown,
)
from tesra.billing.pricing import bill_lines, stretch_of
from tesra.billing.service import BillingService
from tesra.db.engine import Database, Tx
from tesra.kit.errors import PaymentDue
from tesra.kit.ids import AttemptId, RunId, UserId, new_id
from tesra.web.api import create_api
from tesra.web.routes import billing as billing_routes
from tesra.web.routes import identity as identity_routes

pytestmark = pytest.mark.postgres

YUAN = 1_000_000
OPERATOR = UserId("usr_operator")

CACHES_THAT_DIFFER_FROM_THE_LEDGER = """
SELECT account FROM (
    SELECT 'wallet:' || user_id AS account, wallet_micros AS cached FROM billing_accounts
    UNION ALL SELECT 'voucher:' || id, remaining_micros FROM vouchers
    UNION ALL SELECT 'owed:' || user_id, -sum(amount_micros) FILTER (WHERE paid_at IS NULL)
        FROM bills GROUP BY user_id
) AS caches
LEFT JOIN (SELECT account, sum(amount_micros) AS total FROM ledger_entries GROUP BY account)
    AS sums USING (account)
WHERE coalesce(cached, 0) <> coalesce(total, 0)
"""


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def service(clock: SteppedClock) -> BillingService:
    return BillingService(clock, welcome_micros=5 * YUAN, welcome_days=30)


async def account(service: BillingService, tx: Tx, *, wallet: int = 0) -> UserId:
    user = UserId(new_id("usr"))
    await service.open_account(tx, user)
    if wallet:
        await service.topup(tx, OPERATOR, user, amount_micros=wallet)
    return user


async def ran(service: BillingService, tx: Tx, *, hours: float = 1.0) -> tuple[RunId, AttemptId]:
    """A run that used one T for some hours: half a yuan each."""
    run, attempt = RunId(new_id("run")), AttemptId(new_id("att"))
    record = usage(attempt, 1, run=run, duration_ms=int(hours * HOUR_MS))
    await service.record_usage(tx, record)
    return run, attempt


async def billed(service: BillingService, tx: Tx, user: UserId, *, hours: float = 1.0) -> Bill:
    run, attempt = await ran(service, tx, hours=hours)
    return await service.make_bill(tx, run, user, parts=[Part(attempt, 1)])


async def money(service: BillingService, tx: Tx, user: UserId) -> tuple[int, int]:
    wallet = await service.wallet(tx, user)
    return wallet.balance_micros, wallet.vouchers_micros


async def settled_books(tx: Tx) -> bool:
    """Everything that waits for the commit is right, and all balances follow from the entries."""
    await tx.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    total = await tx.scalar(text("SELECT coalesce(sum(amount_micros), 0) FROM ledger_entries"))
    drift = (await tx.execute(text(CACHES_THAT_DIFFER_FROM_THE_LEDGER))).all()
    return total == 0 and not drift


# usage


async def test_the_same_usage_again_is_ignored(service: BillingService, tx: Tx) -> None:
    run, attempt = RunId(new_id("run")), AttemptId(new_id("att"))
    for _ in range(2):
        await service.record_usage(tx, usage(attempt, 1, run=run, duration_ms=HOUR_MS))
    parts = [Part(attempt, 1)]
    assert await service.usage_totals(tx, parts) == 1_000_000
    assert await service.amount_so_far(tx, parts) == YUAN // 2


async def test_the_order_of_devices_is_no_difference(service: BillingService, tx: Tx) -> None:
    attempt = new_id("att")
    fast = ("gpu", 7)
    await service.record_usage(tx, usage(attempt, 1, devices=(ONE_T, fast)))
    await service.record_usage(tx, usage(attempt, 1, devices=(fast, ONE_T)))


@pytest.mark.parametrize(
    "changed", [{"duration_ms": 9}, {"start_s": 1}, {"run": "x"}, {"devices": (("cpu", 1),)}]
)
async def test_other_usage_under_the_same_key_is_refused(
    service: BillingService, tx: Tx, changed: dict[str, Any]
) -> None:
    attempt = new_id("att")
    await service.record_usage(tx, usage(attempt, 1))
    with pytest.raises(UsageConflict):
        await service.record_usage(tx, usage(attempt, 1, **changed))


@pytest.mark.parametrize("until_ms", [None, 0, 17_500, 45_580, 10**9])
async def test_usage_merged_by_the_database_gives_the_lines_of_the_single_records(
    service: BillingService, tx: Tx, clock: SteppedClock, until_ms: int | None
) -> None:
    start_s = 0.0
    records = []
    run, attempts = new_id("run"), [new_id("att"), new_id("att")]
    for seq in range(60):
        devices = (ONE_T, ("gpu", 3_333_333)) if seq % 20 < 13 else (ONE_T, ONE_T)
        duration_ms = 1_000 + 7 * seq
        records.append(
            usage(
                attempts[seq // 40],
                seq,
                run=run,
                start_s=start_s,
                duration_ms=duration_ms,
                devices=devices,
            )
        )
        start_s += duration_ms / 1000
    clock.at = records[10].started_at - timedelta(seconds=1)
    await service.set_price(tx, OPERATOR, 700_001, effective_from=records[25].started_at)
    await service.set_price(tx, OPERATOR, 900_001, effective_from=records[50].started_at)
    for record in records:
        await service.record_usage(tx, record)
    user = await account(service, tx)
    parts = [Part(attempts[0], 1, until_ms), Part(attempts[1], 3)]
    bill = await service.make_bill(tx, RunId(run), user, parts=parts)
    book = await service.prices(tx)
    assert bill.lines == bill_lines(map(stretch_of, records), book, parts)
    assert {line.price_micros for line in bill.lines} >= {700_001, 900_001}
    kept_ms = sum(r.duration_ms for r in records[:40]) if until_ms is None else until_ms
    lasted = {line.first_seq: line.duration_ms for line in bill.lines if line.attempt == 1}
    assert sum(lasted.values()) == min(kept_ms, sum(r.duration_ms for r in records[:40]))
    assert (await service.bill(tx, user, bill.id)).lines == bill.lines


# bills


async def test_a_bill_is_made_once_for_a_run(service: BillingService, tx: Tx) -> None:
    user = await account(service, tx)
    run, attempt = await ran(service, tx)
    first = await service.make_bill(tx, run, user, parts=[Part(attempt, 1)])
    again = await service.make_bill(tx, run, user, parts=[])
    assert first == again
    assert (first.amount_micros, first.state, first.note) == (YUAN // 2, "unpaid", None)
    assert await settled_books(tx)


async def test_what_is_returned_is_what_is_stored(service: BillingService, tx: Tx) -> None:
    user = await account(service, tx, wallet=YUAN)
    await service.grant_welcome(tx, user)
    await service.set_autopay(tx, user, True)
    for hours in (0, 0.01, 10.5):
        bill = await billed(service, tx, user, hours=hours)
        assert bill.state == "paid"
        assert bill == await service.bill(tx, user, bill.id)


async def test_what_the_platform_failed_costs_nothing_and_says_why(
    service: BillingService, tx: Tx
) -> None:
    user = await account(service, tx)
    run, _attempt = await ran(service, tx)
    bill = await service.make_bill(tx, run, user, parts=[], note="The node was lost.")
    assert (bill.amount_micros, bill.state, bill.note) == (0, "paid", "The node was lost.")
    assert not bill.lines
    await service.require_settled(tx, user)


async def test_only_usage_of_the_named_attempts_is_billed(service: BillingService, tx: Tx) -> None:
    user = await account(service, tx)
    run, lost = await ran(service, tx)
    good = AttemptId(new_id("att"))
    await service.record_usage(tx, usage(good, 1, run=run, duration_ms=2 * HOUR_MS))
    bill = await service.make_bill(tx, run, user, parts=[Part(good, 1)])
    assert bill.amount_micros == YUAN
    assert {line.attempt_id for line in bill.lines} == {good} != {lost}


async def test_an_unpaid_bill_refuses_the_next_run_and_names_the_way_out(
    service: BillingService, tx: Tx
) -> None:
    user, other = await account(service, tx), await account(service, tx)
    await service.require_settled(tx, user)
    bill = await billed(service, tx, user)
    with pytest.raises(PaymentDue, match=bill.id) as refusal:
        await service.require_settled(tx, user)
    assert refusal.value.way_out == f"Pay it with `tesra pay {bill.id}`."
    assert refusal.value.fields == {
        "bill": bill.id,
        "amount_cny": "0.50",
        "pay": f"/api/v1/bills/{bill.id}/pay",
    }
    assert await service.unpaid_users(tx, [user, other]) == {user}
    assert (await service.unpaid_bill(tx, user)).id == bill.id  # type: ignore[union-attr]
    assert await service.unpaid_bill(tx, other) is None


async def test_bills_come_in_pages_newest_first(service: BillingService, tx: Tx) -> None:
    user = await account(service, tx)
    made = sorted([(await billed(service, tx, user)).id for _ in range(5)], reverse=True)
    first = await service.bills(tx, user, None, 3)
    rest = await service.bills(tx, user, first[-1].id, 3)
    assert [bill.id for bill in (*first, *rest)] == made


# payment


async def test_vouchers_pay_first_then_the_wallet(service: BillingService, tx: Tx) -> None:
    user = await account(service, tx, wallet=3 * YUAN)
    await service.grant_welcome(tx, user)
    bill = await billed(service, tx, user, hours=12)
    paid = await service.pay(tx, user, bill.id, key="k")
    assert [(p.source, p.amount_micros) for p in paid.payments] == [
        ("voucher", 5 * YUAN),
        ("wallet", YUAN),
    ]
    assert await money(service, tx, user) == (2 * YUAN, 0)
    await service.require_settled(tx, user)
    assert await settled_books(tx)


async def test_paying_a_paid_bill_returns_it_unchanged(service: BillingService, tx: Tx) -> None:
    user = await account(service, tx, wallet=YUAN)
    bill = await billed(service, tx, user)
    paid = await service.pay(tx, user, bill.id)
    code = (await service.issue_voucher(tx, OPERATOR, amount_micros=YUAN)).code
    assert await service.pay(tx, user, bill.id, voucher_code=code) == paid
    assert await money(service, tx, user) == (YUAN // 2, 0)
    await service.redeem(tx, user, code)  # it was not taken for nothing


async def test_too_little_money_changes_nothing_not_even_the_voucher(
    service: BillingService, tx: Tx
) -> None:
    user = await account(service, tx, wallet=YUAN)
    bill = await billed(service, tx, user, hours=10)
    code = (await service.issue_voucher(tx, OPERATOR, amount_micros=YUAN)).code
    with pytest.raises(InsufficientFunds, match=r"CNY 3.00 is missing") as refusal:
        await service.pay(tx, user, bill.id, voucher_code=code)
    assert isinstance(refusal.value, PaymentDue)
    assert refusal.value.fields["missing_cny"] == "3.00"
    assert await money(service, tx, user) == (YUAN, 0)
    assert (await service.bill(tx, user, bill.id)) == bill
    assert (await service.redeem(tx, user, code)).remaining_micros == YUAN


async def test_a_voucher_given_with_the_payment_pays_and_its_rest_stays(
    service: BillingService, tx: Tx
) -> None:
    user = await account(service, tx)
    bill = await billed(service, tx, user)
    code = (await service.issue_voucher(tx, OPERATOR, amount_micros=10 * YUAN)).code
    paid = await service.pay(tx, user, bill.id, voucher_code=code.lower())
    assert paid.state == "paid"
    assert await money(service, tx, user) == (0, 9_500_000)
    assert await settled_books(tx)


async def test_another_users_bill_does_not_exist(service: BillingService, tx: Tx) -> None:
    owner, other = await account(service, tx), await account(service, tx, wallet=9 * YUAN)
    bill = await billed(service, tx, owner)
    for attempt in (
        service.pay(tx, other, bill.id),
        service.bill(tx, other, bill.id),
        service.pay(tx, other, "bil_none"),
    ):
        with pytest.raises(BillMissing) as refusal:
            await attempt
        assert (refusal.value.detail, refusal.value.fields) == (BillMissing.__doc__, {})


async def test_autopay_pays_the_whole_bill_or_nothing(service: BillingService, tx: Tx) -> None:
    user = await account(service, tx, wallet=YUAN)
    await service.set_autopay(tx, user, True)
    assert (await billed(service, tx, user)).state == "paid"
    assert (await billed(service, tx, user, hours=2)).state == "unpaid"
    assert await money(service, tx, user) == (YUAN // 2, 0)
    assert await settled_books(tx)


async def test_nothing_is_paid_by_itself_without_autopay(service: BillingService, tx: Tx) -> None:
    user = await account(service, tx, wallet=YUAN)
    assert (await billed(service, tx, user)).state == "unpaid"


# vouchers and the wallet


async def test_the_welcome_voucher_is_given_once(service: BillingService, tx: Tx) -> None:
    user = await account(service, tx)
    first = await service.grant_welcome(tx, user)
    assert first is not None
    assert (first.origin, first.remaining_micros) == ("welcome", 5 * YUAN)
    assert await service.grant_welcome(tx, user) == first
    assert await money(service, tx, user) == (0, 5 * YUAN)


async def test_the_twentieth_user_of_a_connection_is_welcome_too(
    service: BillingService, tx: Tx
) -> None:
    for _ in range(20):  # the driver prepares a statement that it has seen a few times
        assert await service.grant_welcome(tx, await account(service, tx)) is not None


async def test_no_welcome_voucher_is_given_when_there_is_none(clock: SteppedClock, tx: Tx) -> None:
    service = BillingService(clock, welcome_micros=0)
    assert await service.grant_welcome(tx, await account(service, tx)) is None


async def test_a_code_is_redeemed_once(service: BillingService, tx: Tx) -> None:
    user, other = await account(service, tx), await account(service, tx)
    code = (await service.issue_voucher(tx, OPERATOR, amount_micros=YUAN)).code
    await service.redeem(tx, user, code)
    for who in (user, other):
        with pytest.raises(VoucherSpent):
            await service.redeem(tx, who, code)
    assert await money(service, tx, user) == (0, YUAN)


async def test_a_voucher_for_one_user_is_unknown_to_another(
    service: BillingService, tx: Tx
) -> None:
    user, other = await account(service, tx), await account(service, tx)
    code = (await service.issue_voucher(tx, OPERATOR, amount_micros=YUAN, for_user=user)).code
    with pytest.raises(VoucherUnknown):
        await service.redeem(tx, other, code)
    with pytest.raises(VoucherUnknown):
        await service.redeem(tx, other, "TSR-2222-2222-2222-2222")
    await service.redeem(tx, user, code)


async def test_only_the_hash_of_a_code_is_kept(service: BillingService, tx: Tx) -> None:
    issued = await service.issue_voucher(tx, OPERATOR, amount_micros=YUAN)
    row = (await tx.execute(text("SELECT * FROM vouchers WHERE id = :id"), {"id": issued.id})).one()
    assert issued.code.replace("-", "")[3:] not in str(row).upper().replace("-", "")


async def test_an_expired_code_is_refused(
    service: BillingService, tx: Tx, clock: SteppedClock
) -> None:
    user = await account(service, tx)
    code = (await service.issue_voucher(tx, OPERATOR, amount_micros=YUAN, days=3)).code
    clock.at += timedelta(days=3)
    with pytest.raises(VoucherExpired):
        await service.redeem(tx, user, code)


async def test_what_is_left_of_an_expired_voucher_goes_back(
    service: BillingService, tx: Tx, clock: SteppedClock
) -> None:
    user = await account(service, tx)
    await service.grant_welcome(tx, user)
    first = await billed(service, tx, user)
    await service.pay(tx, user, first.id)
    clock.at += timedelta(days=31)
    second = await billed(service, tx, user)
    with pytest.raises(InsufficientFunds):
        await service.pay(tx, user, second.id)
    assert await service.expire_vouchers(tx) >= 1
    assert await service.expire_vouchers(tx) == 0
    assert [(e.kind, e.amount_micros) for e in (await service.wallet(tx, user)).entries[:1]] == [
        ("expiry", -4_500_000)
    ]
    assert await settled_books(tx)


async def test_a_top_up_with_the_same_key_happens_once(service: BillingService, tx: Tx) -> None:
    user, key = await account(service, tx), new_id("key")
    for _ in range(2):
        await service.topup(tx, OPERATOR, user, amount_micros=YUAN, key=key)
    with pytest.raises(TopUpConflict):
        await service.topup(tx, OPERATOR, user, amount_micros=2 * YUAN, key=key)
    assert await money(service, tx, user) == (YUAN, 0)


async def test_a_wrong_top_up_is_reversed_once_and_only_if_it_is_still_there(
    service: BillingService, tx: Tx
) -> None:
    user, key = await account(service, tx), new_id("key")
    await service.topup(tx, OPERATOR, user, amount_micros=YUAN, key=key)
    await service.reverse(tx, OPERATOR, f"topup:{key}", reason="wrong user")
    assert await money(service, tx, user) == (0, 0)
    with pytest.raises(ReversalRefused):
        await service.reverse(tx, OPERATOR, f"topup:{key}", reason="again")
    await service.topup(tx, OPERATOR, user, amount_micros=YUAN)
    with pytest.raises(ReversalRefused, match="already"):
        await service.reverse(tx, OPERATOR, f"topup:{key}", reason="again")
    assert await money(service, tx, user) == (YUAN, 0)
    assert await settled_books(tx)


async def test_an_unspent_grant_is_reversed(service: BillingService, tx: Tx) -> None:
    user = await account(service, tx)
    lot = await service.grant_welcome(tx, user)
    assert lot is not None
    await service.reverse(tx, OPERATOR, f"grant:{lot.id}", reason="a second account")
    assert await money(service, tx, user) == (0, 0)


async def test_the_wallet_tells_every_movement(service: BillingService, tx: Tx) -> None:
    user = await account(service, tx, wallet=YUAN)
    await service.grant_welcome(tx, user)
    bill = await billed(service, tx, user, hours=11)
    assert (await service.wallet(tx, user)).unpaid_micros == 5_500_000
    await service.pay(tx, user, bill.id)
    wallet = await service.wallet(tx, user)
    assert [(e.kind, e.amount_micros) for e in wallet.entries] == [
        ("payment", -500_000),
        ("voucher", -5 * YUAN),
        ("grant", 5 * YUAN),
        ("topup", YUAN),
    ]
    assert (wallet.unpaid_micros, wallet.lots) == (0, ())


async def test_a_user_without_an_account_has_no_money(service: BillingService, tx: Tx) -> None:
    for attempt in (
        service.wallet(tx, UserId("usr_none")),
        service.require_settled(tx, UserId("usr_none")),
        service.set_autopay(tx, UserId("usr_none"), True),
        service.issue_voucher(tx, OPERATOR, amount_micros=1, for_user=UserId("usr_none")),
    ):
        with pytest.raises(AccountMissing):
            await attempt


# prices


async def test_one_t_h_costs_half_a_yuan_until_the_operator_says_otherwise(
    service: BillingService, tx: Tx, clock: SteppedClock
) -> None:
    assert await service.current_price_micros(tx) == 500_000
    later = clock.at + timedelta(hours=1)
    await service.set_price(tx, OPERATOR, 800_000, later)
    assert await service.current_price_micros(tx) == 500_000
    clock.at = later
    assert await service.current_price_micros(tx) == 800_000
    with pytest.raises(PriceConflict):
        await service.set_price(tx, OPERATOR, 1, later)


async def test_a_price_in_the_past_is_refused(
    service: BillingService, tx: Tx, clock: SteppedClock
) -> None:
    past = clock.at - timedelta(seconds=1)
    for start in (past, past.replace(tzinfo=None)):
        with pytest.raises(PriceInvalid):
            await service.set_price(tx, OPERATOR, 1, start)


# what the database itself refuses


@pytest.mark.parametrize(
    "statement",
    [
        f"{verb} {table}{tail}"
        for table in ("ledger_postings", "ledger_entries", "usage_records", "bill_lines", "prices")
        for verb, tail in (("DELETE FROM", ""), ("TRUNCATE", " CASCADE"))
    ]
    + [
        "UPDATE ledger_postings SET memo = ''",
        "UPDATE ledger_entries SET amount_micros = 1",
        "UPDATE usage_records SET duration_ms = 0",
        "UPDATE bill_lines SET amount_micros = 0",
        "UPDATE prices SET price_micros_per_th = 0",
    ],
)
async def test_the_past_cannot_be_changed(tx: Tx, statement: str) -> None:
    with pytest.raises(DBAPIError, match="append-only"):
        await tx.execute(text(statement))


async def test_a_posting_that_does_not_balance_cannot_be_committed(
    service: BillingService, database: Database
) -> None:
    await refused_at_commit(service, database, [1, -2])


async def test_a_posting_without_entries_cannot_be_committed(
    service: BillingService, database: Database
) -> None:
    await refused_at_commit(service, database, [])


async def test_entries_cannot_be_added_to_a_posting_later(
    service: BillingService, database: Database
) -> None:
    async with database.begin() as tx:
        key = await insert_posting(tx, await account(service, tx), [1, -1])
    with pytest.raises(DBAPIError, match="is closed"):
        async with database.begin() as tx:
            await insert_entries(tx, key, [1, -1])


async def test_a_wallet_cannot_be_overdrawn(service: BillingService, tx: Tx) -> None:
    user = await account(service, tx, wallet=1)
    with pytest.raises(DBAPIError, match="wallet_not_negative"):
        await insert_posting(tx, user, [-2, 2], account=f"wallet:{user}")


async def refused_at_commit(
    service: BillingService, database: Database, amounts: list[int]
) -> None:
    with pytest.raises(DBAPIError, match="not to zero"):
        async with database.begin() as tx:
            await insert_posting(tx, await account(service, tx), amounts)


async def insert_posting(
    tx: Tx, user: UserId, amounts: list[int], *, account: str = "platform:test"
) -> str:
    key = new_id("test")
    await tx.execute(
        text("INSERT INTO ledger_postings (key, kind, user_id, memo) VALUES (:k, 'topup', :u, '')"),
        {"k": key, "u": user},
    )
    await insert_entries(tx, key, amounts, account=account)
    return key


async def insert_entries(
    tx: Tx, key: str, amounts: list[int], *, account: str = "platform:test"
) -> None:
    for number, amount in enumerate(amounts):
        await tx.execute(
            text(
                "INSERT INTO ledger_entries (posting_key, account, amount_micros) VALUES (:k, :a, :m)"
            ),
            {"k": key, "a": account if number == 0 else "platform:other", "m": amount},
        )


# races: two transactions at once


Step = Callable[[Tx], Awaitable[Any]]


async def at_once(database: Database, *steps: Step) -> list[Any]:
    """Each step in a transaction of its own, all open before the first begins; results or errors."""
    barrier = asyncio.Barrier(len(steps))

    async def alone(step: Step) -> Any:
        async with database.begin() as tx:
            await tx.execute(text("SELECT 1"))
            await barrier.wait()
            return await step(tx)

    return await asyncio.gather(*map(alone, steps), return_exceptions=True)


async def test_a_bill_is_paid_once_when_two_pay_at_once(
    service: BillingService, database: Database
) -> None:
    async with database.begin() as tx:
        user = await account(service, tx, wallet=YUAN)
        bill = await billed(service, tx, user)
    paid = await at_once(
        database,
        lambda tx: service.pay(tx, user, bill.id, key="a"),
        lambda tx: service.pay(tx, user, bill.id, key="b"),
    )
    assert paid[0] == paid[1]
    async with database.begin() as tx:
        assert await money(service, tx, user) == (YUAN // 2, 0)
        assert await settled_books(tx)


async def test_the_same_money_does_not_pay_two_bills_at_once(
    service: BillingService, database: Database
) -> None:
    async with database.begin() as tx:
        user = await account(service, tx, wallet=YUAN // 2)
        one, two = await billed(service, tx, user), await billed(service, tx, user)
    results = await at_once(
        database,
        lambda tx: service.pay(tx, user, one.id),
        lambda tx: service.pay(tx, user, two.id),
    )
    assert sorted(type(result).__name__ for result in results) == ["Bill", "InsufficientFunds"]
    async with database.begin() as tx:
        assert await money(service, tx, user) == (0, 0)
        assert await settled_books(tx)


async def test_a_code_is_redeemed_by_one_of_two_users_at_once(
    service: BillingService, database: Database
) -> None:
    async with database.begin() as tx:
        one, two = await account(service, tx), await account(service, tx)
        code = (await service.issue_voucher(tx, OPERATOR, amount_micros=YUAN)).code
    results = await at_once(
        database,
        lambda tx: service.redeem(tx, one, code),
        lambda tx: service.redeem(tx, two, code),
    )
    assert sorted(type(result).__name__ for result in results) == ["VoucherLot", "VoucherSpent"]


async def test_a_run_is_billed_once_when_two_make_its_bill_at_once(
    service: BillingService, database: Database
) -> None:
    async with database.begin() as tx:
        user = await account(service, tx)
        run, attempt = await ran(service, tx)
    one, two = await at_once(
        database,
        *[lambda tx: service.make_bill(tx, run, user, parts=[Part(attempt, 1)])] * 2,
    )
    assert one == two
    async with database.begin() as tx:
        assert (await service.wallet(tx, user)).unpaid_micros == YUAN // 2


async def test_the_same_usage_sent_twice_at_once_counts_once(
    service: BillingService, database: Database
) -> None:
    run, attempt = new_id("run"), new_id("att")
    record = usage(attempt, 1, run=run, duration_ms=HOUR_MS)
    results = await at_once(database, *[lambda tx: service.record_usage(tx, record)] * 2)
    assert results == [500_000, 500_000]
    async with database.begin() as tx:
        assert await service.usage_totals(tx, [Part(attempt, 1)]) == 1_000_000


async def test_a_start_that_races_with_a_bill_waits_and_is_refused(
    service: BillingService, database: Database
) -> None:
    async with database.begin() as tx:
        user = await account(service, tx)
        run, attempt = await ran(service, tx)

    async def start() -> None:
        async with database.begin() as tx:
            await service.require_settled(tx, user)

    async with database.begin() as tx:
        await service.make_bill(tx, run, user, parts=[Part(attempt, 1)])
        starting = asyncio.create_task(start())
        await until_somebody_waits_for_a_lock(database)
        assert not starting.done()
    with pytest.raises(PaymentDue):
        await starting


async def test_expiry_and_payment_of_the_same_voucher_do_not_both_take_it(
    service: BillingService, database: Database, clock: SteppedClock
) -> None:
    async with database.begin() as tx:
        user = await account(service, tx)
        await service.grant_welcome(tx, user)
        bill = await billed(service, tx, user)
    late = BillingService(SteppedClock(clock.at + timedelta(days=31)))
    async with database.begin() as tx:
        await service.pay(tx, user, bill.id)
        async with database.begin() as other:
            await late.expire_vouchers(other)  # leaves the busy account alone, does not wait
    async with database.begin() as tx:
        assert await money(service, tx, user) == (0, 4_500_000)
        await late.expire_vouchers(tx)
        assert await money(service, tx, user) == (0, 0)
        assert await settled_books(tx)


async def until_somebody_waits_for_a_lock(database: Database) -> None:
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    async with asyncio.timeout(20):
        while True:
            async with database.begin() as tx:
                if await tx.scalar(waiting):
                    return


# the doors


@pytest_asyncio.fixture
async def operator_token(database: Database, service: BillingService) -> str:
    identity = identity_service(on_registered=service.open_account)
    async with database.begin() as tx:
        _, token = await identity.bootstrap_operator(tx)
    return token


@pytest_asyncio.fixture
async def api(database: Database, service: BillingService) -> AsyncIterator[Any]:
    services = services_on(
        database,
        billing=service,
        identity=identity_service(on_registered=service.open_account),
    )
    return create_api(services, routers=(identity_routes.router, billing_routes.router))


async def test_money_through_the_api_from_voucher_to_paid_bill(
    api: Any, database: Database, service: BillingService, operator_token: str
) -> None:
    async with client_of(api) as anybody:
        session = await register(anybody)
    name, user = session["user"]["name"], UserId(session["user"]["id"])
    async with client_of(api, token=operator_token) as operator:
        answer = await operator.post(
            "/api/v1/operator/vouchers", json={"amount_cny": "0.30", "for_user": name}
        )
        assert answer.status_code == 201
        code = answer.json()["code"]
        topup = {"user": name, "amount_cny": "1"}
        for _ in range(2):
            answer = await operator.post(
                "/api/v1/operator/topups", json=topup, headers={"Idempotency-Key": new_id("k")[:9]}
            )
            assert answer.status_code == 201
    async with database.begin() as tx:
        bill = await billed(service, tx, user)
    async with client_of(api, token=session["token"]) as client:
        listed = (await client.get("/api/v1/bills")).json()["items"]
        assert [(one["id"], one["state"], one["amount_cny"]) for one in listed] == [
            (bill.id, "unpaid", "0.50")
        ]
        for _ in range(2):
            answer = await client.post(
                f"/api/v1/bills/{bill.id}/pay",
                json={"voucher": code},
                headers={"Idempotency-Key": "pay-once"},
            )
            assert answer.status_code == 200, answer.text
        paid = answer.json()
        assert [(p["source"], p["amount_cny"]) for p in paid["payments"]] == [
            ("voucher", "0.30"),
            ("wallet", "0.20"),
        ]
        assert paid["lines"][0]["explanation"].endswith("= CNY 0.5")
        assert (await client.get(f"/api/v1/bills/{bill.id}")).json() == paid
        wallet = (await client.put("/api/v1/wallet/autopay", json={"on": True})).json()
        assert (wallet["balance_cny"], wallet["autopay"]) == ("0.80", True)
        assert (await client.get("/api/v1/wallet")).json() == wallet
        prices = (await client.get("/api/v1/prices")).json()["items"]
        assert [p["price_cny_per_th"] for p in prices if p["current"]] == ["0.5"]


async def test_the_api_says_what_is_missing(
    api: Any, database: Database, service: BillingService, operator_token: str
) -> None:
    async with client_of(api) as anybody:
        session, other = await register(anybody), await register(anybody)
    async with database.begin() as tx:
        bill = await billed(service, tx, UserId(session["user"]["id"]))
    async with client_of(api, token=session["token"]) as client:
        answer = await client.post(f"/api/v1/bills/{bill.id}/pay", json={})
        assert (answer.status_code, answer.json()["code"]) == (402, "insufficient_funds")
        assert "0.50" in answer.json()["detail"]
        assert (await client.post("/api/v1/operator/topups", json={})).status_code == 403
        answer = await client.post("/api/v1/vouchers/redeem", json={"code": "TSR-NONE"})
        assert (answer.status_code, answer.json()["code"]) == (404, "voucher_unknown")
    async with client_of(api, token=other["token"]) as client:
        answer = await client.post(f"/api/v1/bills/{bill.id}/pay", json={})
        assert answer.status_code == 404
    async with client_of(api, token=operator_token) as operator:
        for body in ({"user": "nobody-here", "amount_cny": "1"},):
            assert (await operator.post("/api/v1/operator/topups", json=body)).status_code == 404
        for amount in ("0", "-1", "1.001", "ten", "1e99"):
            answer = await operator.post("/api/v1/operator/vouchers", json={"amount_cny": amount})
            assert answer.status_code == 422
        answer = await operator.post(
            "/api/v1/operator/prices",
            json={"price_cny_per_th": "0.6", "effective_from": "2020-01-01T00:00:00Z"},
        )
        assert (answer.status_code, answer.json()["code"]) == (422, "price_invalid")


async def test_an_api_price_takes_effect_when_the_operator_says(
    api: Any, operator_token: str
) -> None:
    start = datetime(2999, 1, 1, tzinfo=UTC) + timedelta(seconds=secrets.randbelow(10**9))
    body = {"price_cny_per_th": "0.75", "effective_from": start.isoformat()}
    async with client_of(api, token=operator_token) as operator:
        answer = await operator.post("/api/v1/operator/prices", json=body)
        assert (answer.status_code, answer.json()["current"]) == (201, False)
        assert (await operator.post("/api/v1/operator/prices", json=body)).status_code == 409
