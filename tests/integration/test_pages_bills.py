"""The pages of bills: what they add up to, who sees them, that paying happens once, CSV that runs nothing."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from factories.clusters import FreshDatabase
from factories.network import NetworkDouble, network_on
from factories.pages import PageClient, pages_over, words_of
from tesra.kit.ids import UserId
from tesra.web.ui.pages.bills import csv_text

pytestmark = pytest.mark.postgres

MOST_MS = 600_000
ONCE = re.compile(r'name="once" value="([^"]+)"')


@pytest_asyncio.fixture
async def network(fresh_database: FreshDatabase) -> AsyncIterator[NetworkDouble]:
    async with network_on(await fresh_database()) as network:
        await network.site.enrol(2)
        yield network


@pytest_asyncio.fixture
async def page(network: NetworkDouble) -> AsyncIterator[PageClient]:
    async with pages_over(network.services) as client:
        await client.register()
        yield client


async def billed(network: NetworkDouble, page: PageClient, *, ms: int = MOST_MS) -> Any:
    """A bill of the page's user: one device of one T for ``ms``."""
    owner = UserId((await page.get("/api/v1/me")).json()["id"])
    await network.project(owner)
    await network.submit(owner, devices=1)
    await network.dispatch()
    [assignment] = await network.site.assignments()
    await network.site.train(assignment, ms=ms)
    return (await page.get("/api/v1/bills")).json()["items"][0]


async def once_of(page: PageClient, path: str) -> str:
    return ONCE.findall((await page.look(path)).text)[-1]


async def test_somebody_without_bills_is_told_when_there_will_be_one(page: PageClient) -> None:
    assert "No bills yet" in words_of(await page.look("/bills"))
    assert "Nothing to pay" in words_of(await page.look("/bills?state=unpaid"))


async def test_a_bill_is_explained_line_by_line_and_adds_up(
    network: NetworkDouble, page: PageClient
) -> None:
    bill = await billed(network, page, ms=200)
    lines = (await page.get(f"/api/v1/bills/{bill['id']}")).json()["lines"]
    words = words_of(await page.look(f"/bills/{bill['id']}"))
    assert "attempt 1:" in words
    assert f"{lines[0]['th']}" in words
    assert f"Rounded up once to the fen: ¥{bill['amount_cny']}" in words


async def test_paying_twice_with_one_form_pays_once(
    network: NetworkDouble, page: PageClient
) -> None:
    bill = await billed(network, page)
    key = await once_of(page, f"/bills/{bill['id']}")
    wallet = (await page.get("/api/v1/wallet")).json()
    answers = await asyncio.gather(
        *(page.submit(f"/bills/{bill['id']}/pay", once=key) for _ in range(3))
    )
    assert {answer.status_code for answer in answers} == {303}
    after = (await page.get("/api/v1/wallet")).json()
    spent = float(wallet["vouchers_cny"]) - float(after["vouchers_cny"])
    assert spent == pytest.approx(float(bill["amount_cny"]))
    assert "Paid" in words_of(await page.look(f"/bills/{bill['id']}"))


async def test_short_of_money_says_by_how_much_and_keeps_the_code(
    network: NetworkDouble, page: PageClient
) -> None:
    bill = await billed(network, page)
    owner = UserId((await page.get("/api/v1/me")).json()["id"])
    async with network.services.database.begin() as tx:
        for lot in (await network.services.billing.wallet(tx, owner)).lots:
            await network.services.billing.reverse(tx, owner, f"grant:{lot.id}", reason="test")
    key = await once_of(page, f"/bills/{bill['id']}")
    short = await page.submit(f"/bills/{bill['id']}/pay", once=key)
    assert short.status_code == 402
    assert f"¥{bill['amount_cny']} is missing" in words_of(short)
    unknown = await page.submit(f"/bills/{bill['id']}/pay", once=key, voucher="NO-SUCH <b>")
    assert unknown.status_code == 404
    assert "NO-SUCH &lt;b&gt;" in unknown.text


async def test_a_bill_of_somebody_else_does_not_exist(
    network: NetworkDouble, page: PageClient
) -> None:
    bill = await billed(network, page)
    async with pages_over(network.services) as other:
        await other.register("bob")
        for path in ("", "/receipt", "/lines.csv"):
            assert (await other.look(f"/bills/{bill['id']}{path}")).status_code == 404
        assert (await other.submit(f"/bills/{bill['id']}/pay")).status_code == 404
        assert bill["id"] not in (await other.get("/bills.csv")).text


async def test_bills_come_as_a_table_and_lines_too(
    network: NetworkDouble, page: PageClient
) -> None:
    bill = await billed(network, page)
    table = await page.get("/bills.csv")
    assert table.headers["content-disposition"].startswith("attachment")
    assert f"{bill['id']},{bill['run']},unpaid," in table.text
    lines = await page.get(f"/bills/{bill['id']}/lines.csv")
    assert lines.text.count("\r\n") == 2


async def test_bills_speak_chinese(network: NetworkDouble, page: PageClient) -> None:
    bill = await billed(network, page)
    await page.submit("/language", to="zh-CN")
    assert "算力账单" in words_of(await page.look("/bills"))
    assert "逐行说明" in words_of(await page.look(f"/bills/{bill['id']}"))
    assert "收据" in words_of(await page.look(f"/bills/{bill['id']}"))


async def test_autopay_is_switched_on_and_off(page: PageClient) -> None:
    await page.submit("/bills/autopay", on="1")
    assert (await page.get("/api/v1/wallet")).json()["autopay"] is True
    await page.submit("/bills/autopay", on="")
    assert (await page.get("/api/v1/wallet")).json()["autopay"] is False


async def test_a_wrong_voucher_code_stays_in_its_field(page: PageClient) -> None:
    answer = await page.submit("/bills/vouchers", code="WRONG")
    assert answer.status_code == 404
    assert 'value="WRONG"' in answer.text


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_of_a_table_is_a_formula(cell: str) -> None:
    assert csv_text([[cell]]).lstrip('"').startswith("'")


async def test_signed_out_bills_ask_to_sign_in_and_come_back(network: NetworkDouble) -> None:
    async with pages_over(network.services) as nobody:
        answer = await nobody.look("/bills?state=paid")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/sign-in?next=%2Fbills%3Fstate%3Dpaid"
