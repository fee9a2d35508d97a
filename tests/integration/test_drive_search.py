"""Search by name in the drive, over HTTP within the process, on a real database."""

import io
import tarfile
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from factories.clusters import FreshDatabase
from factories.identity import client_of, register
from factories.network import NetworkDouble, network_on
from tesra.db.engine import Database
from tesra.web.api import create_api

pytestmark = pytest.mark.postgres

DRIVE = "/api/v1/drive"


@pytest.fixture(scope="module")
async def network(database: Database) -> AsyncIterator[NetworkDouble]:
    async with network_on(database) as running:
        yield running


@pytest.fixture
async def client(network: NetworkDouble) -> AsyncIterator[httpx.AsyncClient]:
    api = create_api(network.services)
    async with client_of(api) as anonymous:
        token = (await register(anonymous))["token"]
    async with client_of(api, token=token) as signed_in:
        yield signed_in


async def fill(client: httpx.AsyncClient, *paths: str, content: bytes = b"x") -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as opened:
        for path in paths:
            info = tarfile.TarInfo(path.lstrip("/"))
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    answer = await client.post(f"{DRIVE}/unpack", content=packed.getvalue())
    assert answer.status_code == 200, answer.text


async def search(client: httpx.AsyncClient, query: str, **more: Any) -> list[str]:
    answer = await client.get(f"{DRIVE}/search", params={"q": query, **more})
    assert answer.status_code == 200, answer.text
    assert answer.json()["complete"]
    return [one["path"] for one in answer.json()["items"]]


async def change(client: httpx.AsyncClient, *changes: dict[str, Any]) -> None:
    answer = await client.post(f"{DRIVE}/changes", json={"changes": list(changes)})
    assert answer.status_code == 200, answer.text


async def test_chinese_names_are_found_by_any_part(client: httpx.AsyncClient) -> None:
    await fill(client, "/数据/手写数字识别.csv", "/数据/图像.png", "/数字.txt")
    assert await search(client, "数字") == ["/数字.txt", "/数据/手写数字识别.csv"]
    assert await search(client, "手写 识别") == ["/数据/手写数字识别.csv"]
    assert await search(client, "图") == ["/数据/图像.png"]
    assert await search(client, "字手") == []


@pytest.mark.parametrize("query", ["résumé", "RÉSUMÉ", "re\u0301sume\u0301", "ＲÉＳＵＭÉ"])
async def test_what_looks_alike_is_found_alike(client: httpx.AsyncClient, query: str) -> None:
    await fill(client, "/Re\u0301sume\u0301 2026.pdf")
    assert await search(client, query) == ["/Re\u0301sume\u0301 2026.pdf"]


async def test_folders_are_found_too_and_a_search_stays_below_its_folder(
    client: httpx.AsyncClient,
) -> None:
    await fill(client, "/a/model/best.pt", "/a/models.txt", "/ab/model.bin")
    assert await search(client, "model") == ["/a/model", "/a/models.txt", "/ab/model.bin"]
    assert await search(client, "model", path="/a") == ["/a/model", "/a/models.txt"]
    assert await search(client, "MODEL", path="/ab/") == ["/ab/model.bin"]


async def test_changes_are_followed(client: httpx.AsyncClient) -> None:
    await fill(client, "/work/one.txt", "/work/deep/two.txt", "/keep/two.md")
    assert len(await search(client, "two")) == 2
    await change(client, {"op": "move", "path": "/work/deep", "to": "/elsewhere"})
    assert await search(client, "two") == ["/elsewhere/two.txt", "/keep/two.md"]
    await change(client, {"op": "remove", "path": "/elsewhere"})
    assert await search(client, "two") == ["/keep/two.md"]
    assert await search(client, "elsewhere") == []
    await change(client, {"op": "remove", "path": "/keep"})
    put = await client.put(f"{DRIVE}/content", params={"path": "/keep"}, content=b"a file now")
    assert put.status_code == 200
    assert await search(client, "two") == []
    hits = (await client.get(f"{DRIVE}/search", params={"q": "keep"})).json()["items"]
    assert [(one["kind"], one["size_bytes"]) for one in hits] == [("file", 10)]


async def test_pages_follow_each_other(client: httpx.AsyncClient) -> None:
    await fill(client, *(f"/p/{n:03}.jpg" for n in range(120)))
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query = {"q": ".jpg", "limit": 50} | ({"cursor": cursor} if cursor else {})
        page = (await client.get(f"{DRIVE}/search", params=query)).json()
        seen += [one["path"] for one in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [f"/p/{n:03}.jpg" for n in range(120)]


async def test_others_names_are_not_found(
    client: httpx.AsyncClient, network: NetworkDouble
) -> None:
    await fill(client, "/my secret.txt")
    api = create_api(network.services)
    async with client_of(api) as anonymous:
        token = (await register(anonymous))["token"]
    async with client_of(api, token=token) as other:
        assert await search(other, "secret") == []


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"q": "   "}, "query_invalid"),
        ({"q": "a b c d e f g h i"}, "query_invalid"),
        ({"q": "x" * 201}, "invalid"),
        ({"q": "x", "path": "/../.."}, "path_invalid"),
        ({"q": "x", "path": "private:/a"}, "key_not_here"),
        ({"q": "x", "cursor": "bm90IGhleA"}, "cursor_invalid"),
    ],
)
async def test_what_can_not_be_searched_is_told(
    client: httpx.AsyncClient, params: dict[str, str], code: str
) -> None:
    answer = await client.get(f"{DRIVE}/search", params=params)
    assert answer.json()["code"] == code


@pytest.mark.parametrize("query", ["%", "_", "\\", "'", "{}", "a\\b", '"'])
async def test_signs_mean_themselves(client: httpx.AsyncClient, query: str) -> None:
    for path in (f"/x {query} y", "/plain"):
        put = await client.put(f"{DRIVE}/content", params={"path": path}, content=b"x")
        assert put.status_code == 200
    assert await search(client, query) == [f"/x {query} y"]


async def test_names_are_taken_in_by_the_clock(fresh_database: FreshDatabase) -> None:
    async with network_on(await fresh_database()) as network:
        owner = await network.user()
        await network.services.files.put(owner, {}, words="nothing")
        await network.services.search.look_after()
        async with network.services.database.begin() as tx:
            drive = await network.services.drive.drive_of(tx, owner)
            known = await network.services.search._repository.head(tx, drive.id)
        assert known is not None
        assert known.version == (await network.services.files.head(owner)).number
