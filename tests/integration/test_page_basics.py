"""What holds for every page: headers, proof of forms, languages, errors, no way out of the site."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from factories.clusters import FreshDatabase
from factories.identity import PASSWORD
from factories.network import network_on
from factories.pages import PageClient, pages_over, words_of
from tesra.web.context import Services

pytestmark = pytest.mark.postgres


@pytest_asyncio.fixture
async def services(fresh_database: FreshDatabase) -> AsyncIterator[Services]:
    async with network_on(await fresh_database()) as network:
        yield network.services


@pytest_asyncio.fixture
async def page(services: Services) -> AsyncIterator[PageClient]:
    async with pages_over(services) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/sign-in", "/nowhere", "/account", "/static/app.js"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_every_answer_has_the_headers_that_keep_a_browser_safe(
    page: PageClient, path: str, method: str
) -> None:
    answer = await page.request(method, path, headers={"Accept": "text/html"})
    policy = answer.headers["content-security-policy"]
    assert "script-src " in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert "referrer-policy" in answer.headers


async def test_a_page_for_members_asks_to_sign_in_and_comes_back(page: PageClient) -> None:
    await page.register()
    await page.submit("/sign-out")
    answer = await page.submit("/sign-in", name=page.name, password=PASSWORD, next="/bills?a=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/bills?a=1")


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "\\/e",
        "/a\nb",
    ],
)
async def test_no_redirect_leads_to_another_site(page: PageClient, target: str) -> None:
    await page.register()
    await page.submit("/sign-out")
    answer = await page.submit("/sign-in", name=page.name, password=PASSWORD, next=target)
    assert answer.headers["location"] == "/"
    spoken = await page.submit("/language", to="zh-CN", next=target)
    assert spoken.headers["location"] == "/"


async def test_a_form_without_its_proof_does_nothing(page: PageClient) -> None:
    await page.register()
    forged = await page.submit("/sign-out", csrf="0" * 40)
    assert forged.status_code == 403
    assert page.name in words_of(await page.look("/"))


async def test_a_session_changes_nothing_over_the_api_without_its_proof(page: PageClient) -> None:
    await page.register()
    refused = await page.post("/api/v1/tokens", json={"name": "x"})
    assert refused.status_code == 403
    assert refused.json()["code"] == "request_forged"
    made = await page.post(
        "/api/v1/tokens", json={"name": "x"}, headers={"X-CSRF-Token": page.csrf}
    )
    assert made.status_code == 201
    assert (await page.get("/api/v1/me")).json()["name"] == page.name


async def test_pages_speak_the_language_that_the_browser_asks_for(page: PageClient) -> None:
    assert "训练平台" in words_of(await page.look("/", **{"Accept-Language": "zh-TW,en;q=0.5"}))
    assert "星盘" in words_of(await page.look("/", **{"Accept-Language": "zh"}))
    english = words_of(await page.look("/", **{"Accept-Language": "fr, de;q=0.9"}))
    assert "Training" in english
    assert "Drive" in english


async def test_a_chosen_language_stays(page: PageClient) -> None:
    await page.submit("/language", to="zh-CN", next="/sign-in")
    assert "登录" in words_of(await page.look("/sign-in"))


async def test_an_unknown_address_is_a_page_for_browsers_and_a_document_for_programs(
    page: PageClient,
) -> None:
    html = await page.look("/nowhere")
    assert (html.status_code, html.headers["content-type"].split(";")[0]) == (404, "text/html")
    document = await page.get("/api/v1/nowhere", headers={"Accept": "text/html"})
    assert document.headers["content-type"] == "application/problem+json"


async def test_a_wrong_password_keeps_the_name_and_says_so(page: PageClient) -> None:
    await page.register()
    await page.submit("/sign-out")
    answer = await page.submit("/sign-in", name=page.name, password="wrong wrong")
    assert answer.status_code == 401
    assert f'value="{page.name}"' in answer.text
    assert "The name or the password is wrong." in words_of(answer)


async def test_files_are_compressed_kept_for_ever_and_known_again(page: PageClient) -> None:
    home = (await page.look("/")).text
    address = home.split('href="/static/npm/tabler.css')[1].split('"')[0]
    answer = await page.get(f"/static/npm/tabler.css{address}")
    assert answer.headers["content-encoding"] == "gzip"
    assert "immutable" in answer.headers["cache-control"]
    known = {"If-None-Match": answer.headers["etag"]}
    assert (await page.get("/static/npm/tabler.css", headers=known)).status_code == 304
    assert (await page.get("/static/../session.py")).status_code == 404


async def test_a_script_of_a_page_gets_words_that_its_reader_understands(page: PageClient) -> None:
    await page.register()
    chinese = {"X-CSRF-Token": page.csrf, "Accept-Language": "zh-CN"}
    told = (await page.get("/api/v1/runs/run_1", headers=chinese)).json()
    assert told["detail"] == "您的训练中没有这一次。"
    assert told["way_out"] is None  # a command is none for who reads a page
    assert told["code"] == "run_not_found"
    program = (await page.get("/api/v1/runs/run_1", headers={"Accept-Language": "zh-CN"})).json()
    assert "tesra runs" in program["way_out"]
