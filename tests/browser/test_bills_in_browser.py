"""算力账单 as people use it: a short run makes a bill, it is paid once, short of money is said, receipts."""

import io
import tarfile
from typing import Any

import httpx
import pytest
from playwright.async_api import Page, expect

from factories.browsing import Tabs, serious_faults

pytestmark = [pytest.mark.e2e, pytest.mark.browser]

ENDED_MS = 280_000  # the first run may build the engine's environment
SCRIPT = "import time\ntime.sleep(2)\nprint('hello')\n"
WORDS = {
    "en": {
        "succeeded": "Succeeded",
        "pay": "Pay ¥",
        "paid": "Paid: ¥",
        "explained": "Every line explained",
        "receipt": "Receipt",
        "print": "Print",
        "nothing": "Nothing to pay",
        "missing": "is missing",
        "code": "Voucher code, if you have one",
    },
    "zh-CN": {
        "succeeded": "成功",
        "pay": "支付 ¥",
        "paid": "已支付 ¥",
        "explained": "逐行说明",
        "receipt": "收据",
        "print": "打印",
        "nothing": "没有待付账单",
        "missing": "还差",
        "code": "抵扣券兑换码（如有）",
    },
}


class Person:
    """Somebody new, with calls of their own."""

    def __init__(self, tabs: Tabs) -> None:
        self.name, self.token = tabs.person()
        headers = {"Authorization": f"Bearer {self.token}"}
        self.api = httpx.Client(base_url=f"{tabs.site}/api/v1", headers=headers, timeout=60)

    def get(self, path: str) -> Any:
        return self.api.get(path).raise_for_status().json()

    def run(self) -> str:
        """A short run that begins now; its id."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            entry = tarfile.TarInfo("train.py")
            entry.size = len(SCRIPT)
            archive.addfile(entry, io.BytesIO(SCRIPT.encode()))
        project = {"file": ("project.tar", packed.getvalue())}
        self.api.post("/projects/upload", files=project, data={"name": "p"}).raise_for_status()
        wanted = {"project": "p", "entry": "train.py", "engine": "pytorch", "output": "out"}
        run: str = self.api.post("/runs", json=wanted).raise_for_status().json()["id"]
        return run


async def billed(page: Page, person: Person, words: dict[str, str]) -> dict[str, Any]:
    """The bill of a short run, once the open records say that it has ended."""
    run = person.run()
    await page.goto("/training")
    row = page.locator(f'tr[data-run="{run}"]')
    await expect(row).to_contain_text(words["succeeded"], timeout=ENDED_MS)
    [bill] = person.get("/bills")["items"]
    assert bill["run"] == run
    return dict(bill)


@pytest.mark.parametrize("language", ["en", "zh-CN"])
async def test_a_bill_is_paid_once_from_the_welcome_voucher(tabs: Tabs, language: str) -> None:
    words, person = WORDS[language], Person(tabs)
    page = await tabs.open("/bills?state=unpaid", language=language, token=person.token)
    await expect(page.get_by_text(words["nothing"], exact=True)).to_be_visible()
    bill = await billed(page, person, words)
    before = person.get("/wallet")

    await page.goto("/bills")
    assert await serious_faults(page) == []
    await page.get_by_role("link", name=bill["id"][-8:], exact=True).click()
    await expect(page.get_by_role("heading", name=words["explained"])).to_be_visible()
    assert await serious_faults(page) == []
    await page.get_by_role("button", name=words["pay"]).dblclick()
    await expect(page.get_by_text(words["paid"])).to_be_visible()
    await expect(page.get_by_role("button", name=words["pay"])).to_have_count(0)
    after = person.get("/wallet")
    spent = float(before["vouchers_cny"]) - float(after["vouchers_cny"])
    assert spent == pytest.approx(float(bill["amount_cny"]))
    assert len(person.get(f"/bills/{bill['id']}")["payments"]) == 1

    await page.get_by_role("link", name=words["receipt"]).click()
    await expect(page.get_by_role("heading", name=words["receipt"])).to_be_visible()
    await expect(page.get_by_role("definition").get_by_text(person.name)).to_be_visible()
    await expect(page.get_by_role("button", name=words["print"])).to_be_visible()
    assert await serious_faults(page) == []
    await page.goto("/bills")
    await expect(page.locator("#use-chart canvas")).to_be_visible()
    await expect(page.locator("#use-chart")).to_have_attribute("role", "img")


async def test_short_of_money_is_said_and_a_voucher_pays_in_place(
    tabs: Tabs, operator_token: str
) -> None:
    words, person = WORDS["zh-CN"], Person(tabs)
    headers = {"Authorization": f"Bearer {operator_token}"}
    operator = httpx.Client(base_url=f"{tabs.site}/api/v1/operator", headers=headers, timeout=60)
    page = await tabs.open("/bills", language="zh-CN", token=person.token)
    bill = await billed(page, person, words)
    [welcome] = person.get("/wallet")["vouchers"]
    taken = {"id": f"grant:{welcome['id']}", "reason": "to be short of money"}
    operator.post("/topups/take-back", json=taken).raise_for_status()

    await page.goto(f"/bills/{bill['id']}")
    await expect(page.get_by_text(words["missing"]).first).to_be_visible()
    await page.get_by_role("button", name=words["pay"]).click()
    await expect(page.get_by_role("alert")).to_contain_text(bill["amount_cny"])
    assert await serious_faults(page) == []
    tabs.allow("402")  # the refusal is what this is about

    wanted = {"amount_cny": "1", "for_user": person.name, "expires_in_days": 7}
    code = operator.post("/vouchers", json=wanted).raise_for_status().json()["code"]
    await page.get_by_label(words["code"]).fill(code.lower())
    await page.get_by_role("button", name=words["pay"]).dblclick()
    await expect(page.get_by_text(words["paid"])).to_be_visible()
    left = float(person.get("/wallet")["vouchers_cny"])
    assert left == pytest.approx(1 - float(bill["amount_cny"]))
