"""The drive's tree on a real database and a real disk, over HTTP within the process."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from factories.identity import client_of, register, services_on, settings_in
from tesra.crypto.aead import Sealer
from tesra.db.engine import Database
from tesra.drive.files.repository import Version
from tesra.drive.files.service import FileService
from tesra.drive.pack_store import PackStore
from tesra.drive.service import DriveService
from tesra.kit.ids import UserId
from tesra.web.api import create_api
from tesra.web.routes import drive as drive_routes
from tesra.web.routes import files as file_routes
from tesra.web.routes import identity as identity_routes

pytestmark = pytest.mark.postgres

PREFIX = "/api/v1/drive"


@pytest.fixture
def files(database: Database, tmp_path: Path) -> FileService:
    drive = DriveService(
        database, PackStore(tmp_path / "packs"), Sealer(bytes(32)), quota_bytes=40_000_000
    )
    return FileService(database, drive)


@pytest.fixture
async def client(
    database: Database, files: FileService, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """Signed in as a fresh user, whose drive has 40 MB."""
    settings = settings_in(tmp_path)
    services = services_on(database, settings=settings, drive=files._drive, files=files)
    routers = [identity_routes.router, drive_routes.router, file_routes.router]
    api = create_api(services, routers=routers)
    async with client_of(api) as anonymous:
        token = (await register(anonymous))["token"]
    async with client_of(api, token=token) as signed_in:
        yield signed_in


async def put(client: httpx.AsyncClient, path: str, content: bytes) -> dict[str, Any]:
    answer = await client.put(f"{PREFIX}/content", params={"path": path}, content=content)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def get(client: httpx.AsyncClient, path: str, **query: Any) -> httpx.Response:
    return await client.get(f"{PREFIX}/content", params={"path": path, **query})


async def names(client: httpx.AsyncClient, path: str = "/", **query: Any) -> list[str]:
    answer = await client.get(f"{PREFIX}/tree", params={"path": path, **query})
    assert answer.status_code == 200, answer.text
    return [item["name"] for item in answer.json()["items"]]


async def change(client: httpx.AsyncClient, *changes: dict[str, Any]) -> httpx.Response:
    return await client.post(f"{PREFIX}/changes", json={"changes": list(changes)})


async def test_a_new_drive_is_empty(client: httpx.AsyncClient) -> None:
    assert await names(client) == []
    head = (await client.get(f"{PREFIX}/head")).json()
    assert head["version"] == 1


async def test_what_is_put_is_got_whole_and_in_ranges(client: httpx.AsyncClient) -> None:
    small, large = b"hello", os.urandom(5_000_000)
    await put(client, "/notes/a.txt", small)
    await put(client, "/notes/数据.bin", large)
    assert await names(client, "/notes") == ["a.txt", "数据.bin"]
    assert (await get(client, "/notes/a.txt")).content == small
    assert (await get(client, "/notes/数据.bin")).content == large
    ranged = await client.get(
        f"{PREFIX}/content",
        params={"path": "/notes/数据.bin"},
        headers={"Range": "bytes=4999990-"},
    )
    assert ranged.status_code == 206
    assert ranged.content == large[-10:]
    use = (await client.get(f"{PREFIX}/use", params={"path": "/notes"})).json()
    assert use == {"path": "/notes", "files": 2, "size_bytes": 5_000_005}


async def test_more_at_once_than_the_loop_has_threads_come_to_their_end(
    client: httpx.AsyncClient,
) -> None:
    async with asyncio.timeout(120):
        await asyncio.gather(*(put(client, f"/{n % 4}/{n}", os.urandom(20_000)) for n in range(40)))
        listed = await asyncio.gather(*(names(client, f"/{n % 4}") for n in range(80)))
    assert {len(found) for found in listed} == {10}


async def test_moving_and_copying_move_no_content(client: httpx.AsyncClient) -> None:
    await put(client, "/a/big", os.urandom(3_000_000))
    before = (await client.get(f"{PREFIX}/quota")).json()["used_bytes"]
    moved = await change(
        client,
        {"op": "mkdir", "path": "/b/c"},
        {"op": "copy", "path": "/a/big", "to": "/b/c/copy"},
        {"op": "move", "path": "/a", "to": "/d"},
    )
    assert moved.status_code == 200, moved.text
    assert await names(client) == ["b", "d"]
    assert (await get(client, "/b/c/copy")).content == (await get(client, "/d/big")).content
    after = (await client.get(f"{PREFIX}/quota")).json()["used_bytes"]
    assert after - before < 10_000


async def test_changes_happen_together_or_not_at_all(client: httpx.AsyncClient) -> None:
    await put(client, "/a", b"1")
    refused = await change(
        client, {"op": "mkdir", "path": "/x"}, {"op": "remove", "path": "/missing"}
    )
    assert refused.status_code == 404
    assert refused.json()["code"] == "nothing_there"
    assert await names(client) == ["a"]


async def test_a_change_that_is_repeated_under_its_key_happens_once(
    client: httpx.AsyncClient,
) -> None:
    await put(client, "/a", b"1")
    body = {"changes": [{"op": "move", "path": "/a", "to": "/b"}]}
    headers = {"Idempotency-Key": "move-a"}
    answers = [await client.post(f"{PREFIX}/changes", json=body, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert await names(client) == ["b"]


async def test_what_stands_there_is_not_replaced_unasked(client: httpx.AsyncClient) -> None:
    await put(client, "/a", b"1")
    await put(client, "/b", b"2")
    refused = await change(client, {"op": "move", "path": "/a", "to": "/b"})
    assert refused.status_code == 409
    assert refused.json()["code"] == "something_there"
    done = await change(client, {"op": "move", "path": "/a", "to": "/b", "replace": True})
    assert done.status_code == 200
    assert (await get(client, "/b")).content == b"1"
    trash = (await client.get(f"{PREFIX}/trash")).json()["items"]
    assert [item["path"] for item in trash] == ["/b"]


async def test_the_trash_gives_back_what_was_removed(client: httpx.AsyncClient) -> None:
    await put(client, "/work/model.pt", b"first")
    assert (await change(client, {"op": "remove", "path": "/work"})).status_code == 200
    assert await names(client) == []
    await put(client, "/work", b"something else by now")
    thrown = (await client.get(f"{PREFIX}/trash")).json()["items"][0]
    answer = await client.post(f"{PREFIX}/trash/{thrown['id']}/restore")
    assert answer.status_code == 200, answer.text
    assert await names(client) == ["work", "work (restored)"]
    assert (await get(client, "/work (restored)/model.pt")).content == b"first"
    assert (await client.post(f"{PREFIX}/trash/{thrown['id']}/restore")).status_code == 404


async def test_every_version_can_be_read_and_restored(client: httpx.AsyncClient) -> None:
    first = (await put(client, "/a.txt", b"one"))["head"]["version"]
    await put(client, "/a.txt", b"two")
    assert (await get(client, "/a.txt")).content == b"two"
    assert (await get(client, "/a.txt", version=first)).content == b"one"
    done = await change(
        client, {"op": "restore", "path": "/a.txt", "version": first, "to": "/old.txt"}
    )
    assert done.status_code == 200, done.text
    assert (await get(client, "/old.txt")).content == b"one"
    listed = (await client.get(f"{PREFIX}/versions")).json()["items"]
    assert [item["version"] for item in listed] == sorted(
        (item["version"] for item in listed), reverse=True
    )
    assert (await get(client, "/a.txt", version=999)).status_code == 404


async def test_many_who_write_at_once_all_keep_their_file(client: httpx.AsyncClient) -> None:
    await asyncio.gather(*(put(client, f"/d/{n}", b"%d" % n) for n in range(6)))
    assert await names(client, "/d") == [str(n) for n in range(6)]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/a/../b", "path_invalid"),
        ("/" + "x" * 256, "name_refused"),
        ("/", "name_missing"),
    ],
)
async def test_a_path_that_can_not_be_is_refused(
    client: httpx.AsyncClient, path: str, code: str
) -> None:
    answer = await client.put(f"{PREFIX}/content", params={"path": path}, content=b"x")
    assert answer.status_code == 422
    assert answer.json()["code"] == code


async def test_names_with_blanks_and_emoji_are_kept_as_they_are(client: httpx.AsyncClient) -> None:
    wanted = ["Ä", "a b", "🎈", "A", "é", "e\u0301"]
    for name in wanted:
        await put(client, f"/{name}", name.encode())
    assert await names(client) == sorted(wanted, key=str.encode)
    for name in wanted:
        assert (await get(client, f"/{name}")).content == name.encode()


async def test_what_does_not_fit_is_refused_and_changes_nothing(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.put(
        f"{PREFIX}/content", params={"path": "/big"}, content=b"\0" * 50_000_000
    )
    assert answer.status_code in {413, 507}
    assert await names(client) == []


async def test_a_folder_is_listed_in_pages(client: httpx.AsyncClient) -> None:
    for number in range(7):
        await put(client, f"/f{number}", b"x")
    seen: list[str] = []
    query: dict[str, Any] = {"path": "/", "limit": 3}
    while True:
        page = (await client.get(f"{PREFIX}/tree", params=query)).json()
        seen += [item["name"] for item in page["items"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert seen == [f"f{number}" for number in range(7)]


async def test_another_users_drive_is_not_seen(
    client: httpx.AsyncClient, database: Database, tmp_path: Path
) -> None:
    await put(client, "/secret", b"mine")
    stranger = await register(client)
    headers = {"Authorization": f"Bearer {stranger['token']}"}
    answer = await client.get(f"{PREFIX}/tree", params={"path": "/"}, headers=headers)
    assert answer.json()["items"] == []
    answer = await client.get(f"{PREFIX}/content", params={"path": "/secret"}, headers=headers)
    assert answer.status_code == 404


async def test_a_plan_is_of_one_version_whatever_moves_the_head_meanwhile(
    client: httpx.AsyncClient, files: FileService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking up the head and what stands there, somebody puts another file."""
    await put(client, "/a.txt", b"first" * 1000)
    path = {"path": "/a.txt"}
    before = (await client.get(f"{PREFIX}/plan", params=path)).json()
    at = files._at

    async def moving(owner: UserId, version: int | None) -> Version:
        found = await at(owner, version)
        monkeypatch.undo()
        await put(client, "/a.txt", b"second" * 1000)
        monkeypatch.setattr(files, "_at", moving)
        return found

    monkeypatch.setattr(files, "_at", moving)
    meanwhile = (await client.get(f"{PREFIX}/plan", params=path)).json()
    assert meanwhile == before
    after = (await client.get(f"{PREFIX}/plan", params=path)).json()
    assert after["snapshot"] != before["snapshot"]
    assert after["root"] != before["root"]


@pytest.mark.parametrize("name", ["a%00b", "%FF", "a%ed%a0%80"])
async def test_an_address_that_is_no_text_is_refused(client: httpx.AsyncClient, name: str) -> None:
    """Read as what stands for what can't be read, all such names would be one."""
    answer = await client.put(f"{PREFIX}/content?path=/{name}", content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (422, "address_invalid")
    answer = await client.get(f"/api/v1/uploads/{name}")
    assert answer.status_code in {404, 422}
    assert await names(client) == []


async def test_an_address_in_any_script_is_read(client: httpx.AsyncClient) -> None:
    await put(client, "/é/数据 100%.txt", b"x")
    assert await names(client, "/é") == ["数据 100%.txt"]
