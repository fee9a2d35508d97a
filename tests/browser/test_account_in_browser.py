"""An account from its registration on: second factor, tokens, first steps, notices, help."""

import io
import re
import time
import zipfile
from pathlib import Path
from uuid import uuid4

import httpx
import pyotp
import pytest
from playwright.async_api import Page, expect

from factories.browsing import PASSWORD, Tabs, serious_faults

ENDED_MS = 600_000  # the first run builds the engine's environment

pytestmark = [pytest.mark.e2e, pytest.mark.browser]


async def register(tabs: Tabs, language: str) -> tuple[Page, str]:
    """Somebody new, as they register by hand."""
    page = await tabs.open("/register", language=language)
    name = f"ann-{uuid4().hex[:8]}"
    await page.locator('input[name="name"]').fill(name)
    await page.locator('input[name="password"]').fill(PASSWORD)
    await page.locator("main").get_by_role("button").first.click()
    await expect(page.get_by_role("heading", name=name)).to_be_visible()
    return page, name


async def turn_on(page: Page) -> tuple[pyotp.TOTP, list[str]]:
    """The second factor, set up in English: the app, and the recovery codes."""
    await page.goto("/account/second-factor")
    assert await serious_faults(page) == []
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Set it up").click()
    await expect(page.get_by_role("img", name="QR code")).to_be_visible()
    await page.get_by_text("It can't be scanned?").click()
    secret = await page.locator(".user-select-all").inner_text()
    app = pyotp.TOTP(secret.replace(" ", ""))
    assert await serious_faults(page) == []
    await page.get_by_label("Code").fill(app.now())
    await page.get_by_role("button", name="Turn on").click()
    await expect(page.get_by_role("heading", name="The second factor is on")).to_be_visible()
    codes = await page.locator("#recovery-codes li").all_inner_texts()
    assert len(codes) == 10
    return app, codes


async def test_a_second_factor_from_the_qr_code_to_a_recovery_code(
    tabs: Tabs, tmp_path: Path
) -> None:
    page, name = await register(tabs, "en")
    app, codes = await turn_on(page)
    assert await serious_faults(page) == []
    async with page.expect_download() as saved:
        await page.get_by_role("button", name="Download").click()
    await (await saved.value).save_as(tmp_path / "codes.txt")
    assert (tmp_path / "codes.txt").read_text().split() == codes
    await page.get_by_role("link", name="I have kept them").click()

    # The app's present code was used up by turning it on; the next one is right already.
    for code in (lambda: app.at(int(time.time()) + app.interval), lambda: codes[0]):
        await page.locator(".user-name").click()
        await page.get_by_role("button", name="Sign out").click()
        await page.goto("/sign-in?next=/account")
        await page.get_by_label("User name").fill(name)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Sign in").first.click()
        await expect(page.get_by_role("heading", name="Second step")).to_be_visible()
        assert await serious_faults(page) == []
        await page.get_by_label("Code").fill(code())
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("heading", name="Account", exact=True)).to_be_visible()
    await expect(page.get_by_text("Recovery code used to sign in").first).to_be_visible()


async def test_a_token_is_made_used_and_revoked(tabs: Tabs) -> None:
    page, name = await register(tabs, "zh-CN")
    await page.goto("/account/access")
    await page.get_by_label("名称").fill("笔记本")
    await page.get_by_role("button", name="创建令牌").click()
    token = await page.locator("#new-token").inner_text()
    assert await serious_faults(page) == []

    def calls() -> httpx.Response:
        bearer = {"Authorization": f"Bearer {token}"}
        return httpx.get(f"{tabs.site}/api/v1/me", headers=bearer, timeout=30)

    assert calls().json()["name"] == name
    row = page.get_by_role("row").filter(has_text="笔记本")
    await row.get_by_role("button", name="吊销").click()
    await page.locator("#ask").get_by_role("button").last.click()
    await expect(page.get_by_text("该令牌已失效。")).to_be_visible()
    assert calls().status_code == 401


@pytest.mark.parametrize(
    ("language", "demo", "step"),
    [("en", "Try the demo project", "Import a project"), ("zh-CN", "试试演示项目", "导入项目")],
)
async def test_the_demo_ticks_the_first_step_and_leads_to_its_form(
    tabs: Tabs, language: str, demo: str, step: str
) -> None:
    page, _ = await register(tabs, language)
    assert await serious_faults(page) == []
    await page.get_by_role("button", name=demo).click()
    await page.wait_for_url("**/training/new?project=prj_*")
    await page.goto("/")
    await expect(page.locator(".first-steps .is-done").filter(has_text=step)).to_be_visible()
    assert await serious_faults(page) == []


async def test_the_bell_counts_what_happens_in_every_tab(tabs: Tabs) -> None:
    page, _ = await register(tabs, "en")
    await page.goto("/account/notices")
    assert await serious_faults(page) == []
    other = await page.context.new_page()
    await other.goto("/help")
    cookies = {one["name"]: one["value"] for one in await page.context.cookies()}
    start_what_fails(tabs.site, cookies["tesra_session"])
    for tab in (page, other):
        badge = tab.locator("[data-bell-count]")
        await expect(badge).to_have_text(re.compile("[12]"), timeout=ENDED_MS)
    await page.goto("/notices")
    await expect(page.get_by_text("A run has failed")).to_be_visible()
    assert await serious_faults(page) == []
    for tab in (page, other):
        await expect(tab.locator("[data-bell-count]")).to_be_hidden()


def start_what_fails(site: str, token: str) -> None:
    """A run whose script ends with an error."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("train.py", "raise SystemExit(3)\n")
    headers = {"Authorization": f"Bearer {token}"}
    files = {"file": ("fails.zip", packed.getvalue())}
    api = httpx.Client(base_url=f"{site}/api/v1", headers=headers, timeout=60)
    with api:
        imported = api.post("/projects/upload", data={"name": "fails"}, files=files)
        assert imported.status_code == 201, imported.text
        wanted = {"project": "fails", "engine": "pytorch", "entry": "train.py", "output": "out"}
        started = api.post("/runs", json=wanted)
        assert started.status_code == 201, started.text


@pytest.mark.parametrize(
    ("language", "title", "chapter"), [("en", "Help", "Checkpoints"), ("zh-CN", "帮助", "断点")]
)
async def test_help_is_there_in_both_languages(
    tabs: Tabs, language: str, title: str, chapter: str
) -> None:
    page = await tabs.open("/help", language=language)
    await expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
    assert await serious_faults(page) == []
    await page.locator(".help-contents").get_by_role("link", name=chapter).click()
    await expect(page.get_by_role("heading", name=chapter, exact=True)).to_be_visible()
    assert await serious_faults(page) == []
    await page.locator("article").get_by_role("link").last.click()
    await expect(page.get_by_role("heading", name="Never a torn one")).to_be_visible()
