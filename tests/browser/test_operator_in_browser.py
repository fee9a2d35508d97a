"""The operator's desk as an operator uses it, on a network that runs."""

from typing import Any

import httpx
import pytest
from playwright.async_api import Page, expect

from factories.browsing import Tabs, serious_faults

pytestmark = [pytest.mark.e2e, pytest.mark.browser]

PLACES = (
    "",
    "/users",
    "/prices",
    "/topups",
    "/vouchers",
    "/queue",
    "/storage",
    "/alarms",
    "/jobs",
)
WORDS = {
    "en": {
        "with token": "Sign in with a token",
        "token": "Token",
        "sign in": "Sign in",
        "operator": "Operator",
        "peers": "Storage peers",
        "devices": "devices free",
        "user": "User",
        "amount": "Amount in CNY",
        "top up": "Top up",
        "yes": "Yes, do it",
        "added": "are in the wallet of",
        "for": "For one user only",
        "issue": "Issue the voucher",
        "code": "Voucher code",
        "redeem": "Redeem",
        "redeemed": "added to your vouchers",
        "price": "CNY for one T·H",
        "from": "In force from",
        "set": "Set the price",
        "planned": "planned",
        "year": "2098",
    },
    "zh-CN": {
        "with token": "用令牌登录",
        "token": "令牌",
        "sign in": "登录",
        "operator": "运营",
        "peers": "存储节点",
        "devices": "台设备中",
        "user": "用户",
        "amount": "金额（元）",
        "top up": "充值",
        "yes": "确定",
        "added": "已记入",
        "for": "仅限某个用户",
        "issue": "发放",
        "code": "抵扣券兑换码",
        "redeem": "兑换",
        "redeemed": "加入您的抵扣券",
        "price": "每 T·H 价格（元）",
        "from": "生效时间",
        "set": "设定价格",
        "planned": "待生效",
        "year": "2097",
    },
}


async def sign_in(page: Page, words: dict[str, str], token: str) -> None:
    await page.get_by_text(words["with token"]).click()
    form = page.locator("details form")
    await form.get_by_label(words["token"]).fill(token)
    await form.get_by_role("button", name=words["sign in"]).click()
    await expect(page.get_by_role("heading", name=words["operator"], exact=True)).to_be_visible()


def wallet(site: str, token: str) -> Any:
    headers = {"Authorization": f"Bearer {token}"}
    answer = httpx.get(f"{site}/api/v1/wallet", headers=headers, timeout=30)
    return answer.raise_for_status().json()


@pytest.mark.parametrize("language", ["en", "zh-CN"])
async def test_an_operator_gives_money_and_sets_a_price(
    tabs: Tabs, site: str, operator_token: str, language: str
) -> None:
    words = WORDS[language]
    name, token = tabs.person()
    page = await tabs.open(
        "/sign-in?next=/operator", language=language, timezone_id="Asia/Shanghai"
    )
    await sign_in(page, words, operator_token)

    await page.goto("/operator/topups")
    await page.get_by_role("textbox", name=words["user"]).fill(name)
    await page.get_by_label(words["amount"]).fill("12.34")
    await page.get_by_role("button", name=words["top up"], exact=True).click()
    await page.get_by_role("button", name=words["yes"]).dblclick()
    await expect(page.get_by_text(words["added"])).to_be_visible()
    await expect(page.get_by_role("row").filter(has_text=name)).to_have_count(1)
    assert wallet(site, token)["balance_cny"] == "12.34"

    await page.goto("/operator/vouchers")
    await page.get_by_label(words["amount"]).fill("8")
    await page.get_by_label(words["for"]).fill(name)
    await page.get_by_role("button", name=words["issue"], exact=True).click()
    code = await page.locator("#voucher-code").inner_text()
    assert await serious_faults(page) == []
    ann = await tabs.open("/bills", language=language, token=token)
    await ann.get_by_label(words["code"]).fill(code)
    await ann.get_by_role("button", name=words["redeem"], exact=True).click()
    await expect(ann.get_by_text(words["redeemed"])).to_be_visible()
    await page.goto("/operator/vouchers")
    await expect(page.get_by_text(code)).to_have_count(0)
    await expect(page.get_by_role("row").filter(has_text=name)).to_contain_text("¥8.00")

    await page.goto("/operator/prices")
    await page.get_by_label(words["price"]).fill("0.75")
    await page.get_by_label(words["from"]).fill(f"{words['year']}-06-01T08:00")
    await page.get_by_role("button", name=words["set"], exact=True).click()
    await page.get_by_role("button", name=words["yes"]).click()
    planned = page.get_by_role("row").filter(has_text=f"{words['year']}-06-01 00:00:00 UTC")
    await expect(planned).to_contain_text(words["planned"])
    await expect(planned).to_contain_text("¥0.75")


async def test_the_map_shows_nodes_and_peers_and_goes_on_by_itself(
    tabs: Tabs, operator_token: str
) -> None:
    words = WORDS["en"]
    page = await tabs.open("/operator", token=operator_token)
    drawn = page.locator("#network-map")
    await expect(drawn).to_contain_text("of 2 " + words["devices"])
    await expect(drawn.get_by_role("heading", level=4)).to_have_count(4)  # a node, three peers
    await expect(drawn.get_by_text("gateway")).to_be_visible()
    async with page.expect_response(lambda answer: answer.url.endswith("/operator/map")) as answer:
        pass
    assert (await answer.value).status == 200
    await expect(drawn.get_by_role("heading", level=4)).to_have_count(4)
    assert await serious_faults(page) == []


@pytest.mark.parametrize(
    ("language", "options"),
    [
        ("en", {}),
        ("zh-CN", {"color_scheme": "dark"}),
    ],
)
async def test_no_page_of_the_desk_has_a_serious_fault_or_is_too_wide_for_a_phone(
    tabs: Tabs, operator_token: str, language: str, options: dict[str, Any]
) -> None:
    page = await tabs.open("/operator", language=language, token=operator_token, **options)
    for path in (*(f"/operator{place}" for place in PLACES), "/provider"):
        await page.set_viewport_size({"width": 1280, "height": 900})
        await page.goto(path)
        assert await serious_faults(page) == [], path
        await page.set_viewport_size({"width": 390, "height": 800})
        assert await page.evaluate("document.documentElement.scrollWidth") <= 390, path
        assert await serious_faults(page) == [], path


async def test_who_is_no_operator_sees_no_desk(tabs: Tabs) -> None:
    _, token = tabs.person()
    page = await tabs.open("/", token=token)
    await expect(page.get_by_role("link", name="Operator")).to_have_count(0)
    answer = await page.goto("/operator")
    assert answer is not None
    assert answer.status == 403
    tabs.allow("403")  # the refusal is what this is about
    await page.goto("/provider")
    await expect(page.get_by_role("heading", name="You share no nodes yet")).to_be_visible()
    assert await serious_faults(page) == []
