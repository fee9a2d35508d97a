"""The account's pages: two steps of signing in, the second factor, sessions, tokens, channels."""

import re
from collections.abc import AsyncIterator
from html import unescape

import httpx
import pyotp
import pytest
import pytest_asyncio

from factories.clusters import FreshDatabase
from factories.identity import PASSWORD
from factories.network import network_on
from factories.pages import PageClient, pages_over, words_of
from tesra.web.context import Services

pytestmark = pytest.mark.postgres

FACTOR = "/account/second-factor"


@pytest_asyncio.fixture
async def services(fresh_database: FreshDatabase) -> AsyncIterator[Services]:
    async with network_on(await fresh_database()) as network:
        yield network.services


@pytest_asyncio.fixture
async def page(services: Services) -> AsyncIterator[PageClient]:
    async with pages_over(services) as client:
        await client.register()
        yield client


def codes_of(answer: httpx.Response) -> list[str]:
    found = re.search(r'(?s)id="recovery-codes">(.*?)</ul>', answer.text)
    assert found, words_of(answer)
    return re.findall(r"<li>(.*?)</li>", found[1])


async def turn_on(page: PageClient) -> tuple[pyotp.TOTP, list[str]]:
    """The app of somebody whose second factor is on, and the recovery codes."""
    begun = await page.submit(f"{FACTOR}/begin", password=PASSWORD)
    assert begun.headers["location"] == FACTOR
    shown = await page.look(FACTOR)
    spelled = re.search(r'user-select-all">([A-Z2-7 ]+)</p>', shown.text)
    assert spelled
    assert "<svg" in shown.text
    app = pyotp.TOTP(spelled[1].replace(" ", ""))
    return app, codes_of(await page.submit(f"{FACTOR}/confirm", code=app.now()))


async def test_the_code_is_asked_after_the_password_and_the_password_not_again(
    page: PageClient,
) -> None:
    _, codes = await turn_on(page)
    await page.submit("/sign-out")
    first = await page.submit("/sign-in", name=page.name, password=PASSWORD, next="/bills")
    assert first.headers["location"] == "/sign-in/code?next=%2Fbills"
    asked = await page.look(first.headers["location"])
    assert page.name in words_of(asked)
    assert 'type="password"' not in asked.text
    wrong = await page.submit("/sign-in/code", code="000000", next="/bills")
    assert wrong.status_code == 401
    assert "This code is wrong" in words_of(wrong)
    done = await page.submit("/sign-in/code", code=codes[0], next="/bills")
    assert (done.status_code, done.headers["location"]) == (303, "/bills")
    assert "9" in words_of(await page.look(FACTOR))


async def test_half_a_sign_in_is_worth_nothing_to_another_browser(
    page: PageClient, services: Services
) -> None:
    _, codes = await turn_on(page)
    await page.submit("/sign-out")
    await page.submit("/sign-in", name=page.name, password=PASSWORD)
    async with pages_over(services) as other:
        await other.look("/sign-in")
        other.cookies.set("tesra_half", page.cookies["tesra_half"])
        answer = await other.submit("/sign-in/code", code=codes[0])
        assert answer.headers["location"] == "/sign-in"
        assert "begun too long ago" in words_of(await other.look("/sign-in"))


async def test_half_a_sign_in_ends_with_the_password(page: PageClient, services: Services) -> None:
    _, codes = await turn_on(page)
    async with pages_over(services) as other:
        await other.submit("/sign-in", name=page.name, password=PASSWORD)
        changed = await page.submit(
            "/account/password",
            old_password=PASSWORD,
            new_password="quite another one",
            code=codes[0],
        )
        assert changed.status_code == 303
        answer = await other.submit("/sign-in/code", code=codes[1])
        assert answer.headers["location"] == "/sign-in"


async def test_codes_count_against_the_limit_of_logins(page: PageClient) -> None:
    await turn_on(page)
    await page.submit("/sign-out")
    await page.submit("/sign-in", name=page.name, password=PASSWORD)
    for _ in range(10):
        answer = await page.submit("/sign-in/code", code="000000")
        if answer.status_code == 429:
            break
    assert answer.status_code == 429
    assert "Too many failed logins" in words_of(answer)


async def test_turning_off_needs_password_and_code(page: PageClient) -> None:
    _, codes = await turn_on(page)
    refused = await page.submit(f"{FACTOR}/off", password="wrong wrong", code=codes[0])
    assert refused.status_code == 401
    assert "The password is wrong." in words_of(refused)
    fresh = await page.submit(f"{FACTOR}/codes", password=PASSWORD, code=codes[0])
    renewed = codes_of(fresh)
    assert set(renewed).isdisjoint(codes)
    off = await page.submit(f"{FACTOR}/off", password=PASSWORD, code=renewed[0])
    assert off.headers["location"] == FACTOR
    log = words_of(await page.look("/account"))
    assert "Second factor turned off" in log
    assert "New recovery codes made" in log


async def test_a_token_is_shown_once_and_a_second_click_makes_no_other(page: PageClient) -> None:
    shown = await page.look("/account/access")
    key = re.search(r'name="once" value="([^"]+)"', shown.text)
    assert key
    fields = {"name": "<b>laptop</b>", "days": "90", "scope": "read", "once": key[1]}
    made = await page.submit("/account/tokens", fields)
    again = await page.submit("/account/tokens", fields)
    token = re.search(r'id="new-token">([^<]+)<', made.text)
    assert token
    assert token[1] in again.text
    assert "<b>laptop</b>" not in made.text
    later = await page.look("/account/access")
    assert token[1] not in later.text
    assert unescape(later.text).count("<b>laptop</b>") == 1
    bearer = {"Authorization": f"Bearer {token[1]}"}
    async with httpx.AsyncClient(transport=page._transport, base_url=page.base_url) as program:
        assert (await program.get("/api/v1/me", headers=bearer)).json()["name"] == page.name
        revoke = re.search(r"/account/tokens/([^/]+)/revoke", later.text)
        assert revoke
        await page.submit(f"/account/tokens/{revoke[1]}/revoke")
        assert (await program.get("/api/v1/me", headers=bearer)).status_code == 401


async def test_other_sessions_are_seen_and_ended(page: PageClient, services: Services) -> None:
    async with pages_over(services) as other:
        await other.submit("/sign-in", name=page.name, password=PASSWORD)
        shown = await page.look("/account/access")
        assert shown.text.count("/account/sessions/tok_") == 1
        await page.submit("/account/sessions/revoke-others")
        assert (await other.look("/account")).headers["location"].startswith("/sign-in")
    assert (await page.look("/account")).status_code == 200


async def test_nobody_ends_anothers_session_or_token(page: PageClient, services: Services) -> None:
    async with pages_over(services) as other:
        await other.register()
        await other.submit("/account/tokens", name="mine", days="30", scope="read")
        shown = await other.look("/account/access")
        token = re.search(r"/account/tokens/([^/]+)/revoke", shown.text)
        assert token
    assert (await page.submit(f"/account/tokens/{token[1]}/revoke")).status_code == 404
    assert (await page.submit(f"/account/sessions/{token[1]}/revoke")).status_code == 404


async def test_preferences_follow_to_another_browser(page: PageClient, services: Services) -> None:
    await page.submit("/language", to="zh-CN")
    await page.submit("/theme", to="dark")
    async with pages_over(services, language="en") as other:
        await other.submit("/sign-in", name=page.name, password=PASSWORD)
        there = await other.look("/account")
        assert 'lang="zh-CN"' in there.text
        assert 'data-bs-theme="dark"' in there.text
        await other.submit("/account/preferences", locale="", theme="auto")
        assert 'lang="en"' in (await other.look("/account")).text


async def test_a_token_that_only_reads_changes_nothing(page: PageClient) -> None:
    made = await page.submit("/account/tokens", name="eyes", days="30", scope="read")
    token = re.search(r'id="new-token">([^<]+)<', made.text)
    assert token
    await page.submit("/sign-out")
    await page.submit("/sign-in", token=token[1])
    assert (await page.look("/account")).status_code == 200
    refused = await page.submit("/account/preferences", theme="dark")
    assert refused.status_code == 403
    signed_out = await page.submit("/sign-out")
    assert signed_out.status_code == 303
    again = await page.submit("/sign-in", token=token[1])
    assert again.status_code == 303  # a token that was lent to a browser outlives its sign-out


async def test_a_webhook_is_added_with_its_secret_once_and_removed(page: PageClient) -> None:
    fields = {"kind": "webhook", "address": "https://example.org/hook?<i>", "event": "failed"}
    made = await page.submit("/account/notices", fields)
    assert "whsec_" in made.text
    assert "hook?<i>" not in made.text
    shown = await page.look("/account/notices")
    assert "whsec_" not in shown.text
    channel = re.search(r"/account/notices/([^/]+)/remove", shown.text)
    assert channel
    assert (await page.submit(f"/account/notices/{channel[1]}/remove")).status_code == 303
    assert (
        "example.org/hook?" not in words_of(await page.look("/account/notices")).split("Add an")[0]
    )


async def test_a_refused_address_keeps_what_was_typed(page: PageClient) -> None:
    fields = {"kind": "webhook", "address": "ftp://example.org", "event": "bill"}
    answer = await page.submit("/account/notices", fields)
    assert answer.status_code == 422
    assert "A webhook needs an http or https URL." in words_of(answer)
    assert 'value="ftp://example.org"' in answer.text
    assert "This network sends no e-mail." in words_of(answer)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/account", "修改密码"),
        (FACTOR, "两步验证"),
        ("/account/access", "会话与令牌"),
        ("/account/notices", "通知渠道"),
    ],
)
async def test_the_pages_speak_chinese(page: PageClient, path: str, words: str) -> None:
    assert words in words_of(await page.look(path, **{"Accept-Language": "zh-CN"}))
