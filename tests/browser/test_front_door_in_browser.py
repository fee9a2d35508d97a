"""Home, registering and signing in, as a newcomer meets them."""

from uuid import uuid4

import pytest
from playwright.async_api import expect

from factories.browsing import PASSWORD, Tabs, serious_faults

pytestmark = [pytest.mark.e2e, pytest.mark.browser]


@pytest.mark.parametrize(("language", "training"), [("en", "Training"), ("zh-CN", "训练平台")])
async def test_home_names_both_products_in_the_readers_language(
    tabs: Tabs, language: str, training: str
) -> None:
    page = await tabs.open("/", language=language)
    await expect(page.get_by_role("link", name=training, exact=True)).to_be_visible()
    assert await serious_faults(page) == []


async def test_a_newcomer_registers_and_is_signed_in(tabs: Tabs) -> None:
    page = await tabs.open("/register", language="zh-CN")
    name = f"新人{uuid4().hex[:8]}"
    await page.get_by_label("用户名").fill(name)
    await page.get_by_label("密码").fill(PASSWORD)
    await page.get_by_role("button", name="注册").click()
    await expect(page.get_by_role("heading", name=name)).to_be_visible()


async def test_a_language_switch_in_the_middle_of_a_form_loses_nothing(tabs: Tabs) -> None:
    page = await tabs.open("/register")
    await page.get_by_label("Name").fill("half a na")
    await page.get_by_role("button", name="中文").click()
    await expect(page.get_by_label("用户名")).to_have_value("half a na")
