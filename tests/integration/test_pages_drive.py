"""The drive's pages without a browser: lists, forms, versions, trash, links, health, room."""

import asyncio
import io
import re
import struct
import zipfile
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio

from factories.clusters import FreshDatabase
from factories.network import network_on
from factories.pages import PageClient, pages_over, words_of
from tesra.web.context import Services

pytestmark = pytest.mark.postgres

PREFIX = "/api/v1/drive"
BAD_NAMES = (
    "<script>alert(1)",
    '" onmouseover="alert(1)',
    "\N{GRINNING FACE} 表情.txt",
    "שלום.txt",
    "a%2Fb?c#d&e.txt",
    "长" * 85,  # 255 bytes
    " spaces and 'quotes' ",
)


class DriveClient(PageClient):
    """Puts files as a program does, with the session's proof."""

    async def put(self, path: str, content: bytes) -> None:  # type: ignore[override]
        answer = await self.request(
            "PUT", f"{PREFIX}/content", params={"path": path}, content=content, headers=self._proof
        )
        assert answer.status_code == 200, answer.text

    async def change(self, *changes: dict[str, Any]) -> None:
        answer = await self.post(
            f"{PREFIX}/changes", json={"changes": list(changes)}, headers=self._proof
        )
        assert answer.status_code == 200, answer.text

    async def ask(self, path: str, body: dict[str, Any]) -> Any:
        answer = await self.post(f"{PREFIX}/{path}", json=body, headers=self._proof)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def names(self, path: str = "/") -> list[str]:
        answer = await self.get(f"{PREFIX}/tree", params={"path": path, "limit": 200})
        return [entry["name"] for entry in answer.json().get("items", [])]

    async def content(self, path: str) -> bytes:
        answer = await self.get(f"{PREFIX}/content", params={"path": path})
        return answer.content

    @property
    def _proof(self) -> dict[str, str]:
        return {"X-CSRF-Token": self.csrf}


@pytest_asyncio.fixture
async def services(fresh_database: FreshDatabase) -> AsyncIterator[Services]:
    async with network_on(await fresh_database()) as network:
        yield network.services


@pytest_asyncio.fixture
async def page(services: Services) -> AsyncIterator[DriveClient]:
    async with pages_over(services) as client:
        client.__class__ = DriveClient
        assert isinstance(client, DriveClient)
        await client.register()
        yield client


def paths_of(answer: httpx.Response) -> list[str]:
    return re.findall(r'<tr data-path="([^"]*)"', answer.text)


async def test_an_empty_drive_says_how_files_get_here(page: DriveClient) -> None:
    words = words_of(await page.look("/drive"))
    assert "Nothing is here yet" in words
    assert "of 10 GiB used" in words


async def test_the_drive_asks_to_sign_in_and_leads_back(services: Services) -> None:
    async with pages_over(services) as stranger:
        answer = await stranger.look("/drive/files/a%20b/c.txt")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/sign-in?next=%2Fdrive%2Ffiles%2Fa%2520b%2Fc.txt"


async def test_names_of_any_kind_are_shown_as_text_and_can_be_opened(page: DriveClient) -> None:
    for name in BAD_NAMES:
        await page.put(f"/in/{name}", b"x")
    answer = await page.look("/drive/files/in")
    assert "<script>alert" not in answer.text
    assert 'onmouseover="alert' not in answer.text
    for name in BAD_NAMES:
        found = await page.look(f"/drive/files/in/{quote(name)}")
        assert found.status_code == 200, name
        assert "<script>alert" not in found.text
        assert f'href="/drive/files/in/{quote(name)}"' in answer.text


async def test_a_name_can_not_turn_the_text_around_it(page: DriveClient) -> None:
    await page.put("/\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe", b"x")
    answer = await page.look("/drive")
    shown = re.findall(r"<bdi>(.*?)</bdi>", answer.text)
    assert shown == ["\N{REPLACEMENT CHARACTER}gpj.exe"]


async def test_a_long_folder_comes_in_pages_in_every_order(page: DriveClient) -> None:
    changes = [{"op": "mkdir", "path": f"/many/d{number:03}"} for number in range(230)]
    await page.change(*changes)
    await page.put("/many/small", b"s")
    await page.put("/many/large", b"l" * 5000)
    expected = sorted([f"/many/d{n:03}" for n in range(230)] + ["/many/large", "/many/small"])
    by_size = ["/many/large", "/many/small", *expected[:230]]
    orders = {
        "name": expected,
        "-name": expected[::-1],
        "-size": by_size,
        "size": [*expected[:230], "/many/small", "/many/large"],
    }
    for sort, wanted in orders.items():
        seen: list[str] = []
        url = f"/drive/files/many?sort={sort}"
        while url:
            answer = await page.look(url)
            seen += paths_of(answer)
            following = re.search(r'rel="next" href="([^"]+)"', answer.text)
            url = following[1].replace("&amp;", "&") if following else ""
        assert seen == wanted, sort


async def test_a_language_switch_comes_back_to_a_name_with_marks_in_it(page: DriveClient) -> None:
    name = "50% off? yes #1"
    await page.put(f"/{name}", b"x")
    shown = await page.look(f"/drive/files/{quote(name)}")
    back = re.search(r'name="next" value="([^"]+)"', shown.text)
    assert back
    switched = await page.submit("/language", to="zh-CN", next=back[1])
    assert switched.headers["location"] == f"/drive/files/{quote(name)}"


async def test_a_cursor_of_another_list_is_refused(page: DriveClient) -> None:
    await page.put("/a", b"x")
    assert (await page.look("/drive?sort=size&cursor=YWJj")).status_code == 422
    assert (await page.look("/drive?sort=colour")).status_code == 422


async def test_a_new_folder_is_made_and_entered(page: DriveClient) -> None:
    answer = await page.submit("/drive/folder", at="/", name="新 文件夹")
    assert answer.headers["location"] == f"/drive/files/{quote('新 文件夹')}"
    assert await page.names() == ["新 文件夹"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "Type a name."),
        ("a/b", "A name can't hold a slash"),
        ("..", "is not a name of one file"),
        ("x" * 256, "has 256 bytes"),
    ],
)
async def test_a_folder_with_an_impossible_name_is_refused_in_words(
    page: DriveClient, name: str, why: str
) -> None:
    answer = await page.submit("/drive/folder", at="/", name=name)
    assert answer.status_code == 422
    assert why in words_of(answer)
    assert f'value="{name}"' in answer.text


async def test_a_file_where_the_folder_should_be_is_told(page: DriveClient) -> None:
    await page.put("/taken", b"x")
    answer = await page.submit("/drive/folder", at="/", name="taken")
    assert answer.status_code == 409
    assert "is a file, not a folder" in words_of(answer)


async def test_renaming_keeps_the_content_and_refuses_a_name_that_is_taken(
    page: DriveClient,
) -> None:
    await page.put("/a.txt", b"content")
    await page.put("/b.txt", b"other")
    refused = await page.submit("/drive/rename", path="/a.txt", name="b.txt")
    assert refused.status_code == 409
    assert 'value="b.txt"' in refused.text
    done = await page.submit("/drive/rename", path="/a.txt", name="c.txt")
    assert done.headers["location"] == "/drive"
    assert await page.names() == ["b.txt", "c.txt"]
    assert await page.content("/c.txt") == b"content"
    assert "Renamed to c.txt." in words_of(await page.look("/drive"))


async def test_what_is_deleted_comes_back_by_undo(page: DriveClient) -> None:
    await page.put("/keep/one.txt", b"1")
    await page.put("/keep/two.txt", b"2")
    answer = await page.submit("/drive/delete", at="/keep", path=["/keep/one.txt", "/keep/two.txt"])
    after = await page.look(answer.headers["location"])
    assert "2 items moved to the trash." in words_of(after)
    assert await page.names("/keep") == []
    version = re.search(r'name="version" value="(\d+)"', after.text)
    assert version
    await page.submit("/drive/undo", at="/keep", version=version[1])
    assert await page.names("/keep") == ["one.txt", "two.txt"]
    assert (await page.get(f"{PREFIX}/trash")).json()["items"] == []


async def test_choosing_nothing_says_so(page: DriveClient) -> None:
    for act in ("delete", "move", "copy", "download"):
        answer = await page.submit(f"/drive/{act}", at="/")
        assert answer.status_code == 422
        assert "Choose something first" in words_of(answer)


async def test_many_are_moved_and_copied_at_once(page: DriveClient) -> None:
    await page.put("/a.txt", b"a")
    await page.put("/b.txt", b"b")
    await page.change({"op": "mkdir", "path": "/into"})
    asked = await page.submit("/drive/move", at="/", path=["/a.txt", "/b.txt"])
    assert asked.status_code == 200
    assert 'value="/into"' in asked.text
    moved = await page.submit(
        "/drive/move", at="/", path=["/a.txt", "/b.txt"], to="/into", do="yes"
    )
    assert moved.headers["location"] == "/drive/files/into"
    assert await page.names("/into") == ["a.txt", "b.txt"]
    await page.submit("/drive/copy", at="/into", path=["/into/a.txt"], to="/new/deep", do="yes")
    assert await page.content("/new/deep/a.txt") == b"a"
    assert await page.names("/into") == ["a.txt", "b.txt"]


async def test_a_move_onto_something_asks_before_it_replaces(page: DriveClient) -> None:
    await page.put("/a.txt", b"new")
    await page.put("/into/a.txt", b"old")
    refused = await page.submit("/drive/move", at="/", path="/a.txt", to="/into", do="yes")
    assert refused.status_code == 409
    assert 'name="replace"' in refused.text
    assert await page.content("/into/a.txt") == b"old"
    fields = {"at": "/", "path": "/a.txt", "to": "/into", "do": "yes", "replace": "yes"}
    assert (await page.submit("/drive/move", fields)).status_code == 303
    assert await page.content("/into/a.txt") == b"new"
    assert [one["path"] for one in (await page.get(f"{PREFIX}/trash")).json()["items"]] == [
        "/into/a.txt"
    ]


async def test_a_folder_can_not_go_into_itself(page: DriveClient) -> None:
    await page.put("/a/x", b"x")
    answer = await page.submit("/drive/move", at="/", path="/a", to="/a/b", do="yes")
    assert answer.status_code == 422
    assert "into itself" in words_of(answer)


async def test_what_is_chosen_comes_as_one_archive(page: DriveClient) -> None:
    await page.put("/a.txt", b"a")
    await page.put("/folder/deep/b.txt", b"b")
    await page.put("/not.txt", b"not")
    answer = await page.submit("/drive/download", at="/", path=["/a.txt", "/folder"])
    assert answer.headers["content-disposition"].startswith("attachment")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
        assert sorted(packed.namelist()) == [
            "a.txt",
            "folder/",
            "folder/deep/",
            "folder/deep/b.txt",
        ]
        assert packed.read("folder/deep/b.txt") == b"b"


async def test_downloads_are_attachments_in_a_sandbox(page: DriveClient) -> None:
    await page.put("/evil.html", b"<script>alert(1)</script>")
    answer = await page.get(f"{PREFIX}/content", params={"path": "/evil.html"})
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["content-type"] == "application/octet-stream"


async def test_previews_show_source_and_never_run_it(page: DriveClient) -> None:
    await page.put("/evil.html", b"<script>alert('html')</script>")
    await page.put("/evil.svg", b"<svg onload=\"alert('svg')\"/>")
    await page.put("/evil.csv", b"<b>head</b>,x\n<script>1</script>,2\n")
    await page.put("/evil.md", b"# Title\n\n<script>alert('md')</script>\n[x](javascript:alert(1))")
    for name in ("evil.html", "evil.svg", "evil.csv", "evil.md"):
        shown = await page.look(f"/drive/preview?path=/{name}")
        assert shown.status_code == 200
        assert "<script" not in shown.text, name
        assert "<svg" not in shown.text
        assert "<b>" not in shown.text
        assert 'href="javascript' not in shown.text
        assert "unsafe" not in shown.headers["content-security-policy"]
    assert "<h1>Title</h1>" in (await page.look("/drive/preview?path=/evil.md")).text


async def test_a_safetensors_file_shows_its_tensors(page: DriveClient) -> None:
    header = b'{"layer.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}'
    await page.put("/m.safetensors", struct.pack("<Q", len(header)) + header + bytes(24))
    words = words_of(await page.look("/drive/preview?path=/m.safetensors"))
    assert "layer.weight" in words
    assert "2 × 3" in words


async def test_versions_are_listed_and_restored(page: DriveClient) -> None:
    for content in (b"one", b"two two", b"three three"):
        await page.put("/f.txt", content)
    await page.put("/other.txt", b"x")
    listed = await page.look("/drive/versions?path=/f.txt")
    assert len(re.findall(r"version=\d+", listed.text)) == 3
    oldest = min(int(number) for number in re.findall(r"version=(\d+)", listed.text))
    await page.submit("/drive/restore", path="/f.txt", version=oldest, replace="yes")
    assert await page.content("/f.txt") == b"one"
    assert await page.names() == ["f.txt", "other.txt"]


async def test_the_history_knows_when_nothing_stood_there(page: DriveClient) -> None:
    await page.put("/f.txt", b"one")
    await page.change({"op": "remove", "path": "/f.txt"})
    await page.put("/f.txt", b"again")
    stages = (await page.get(f"{PREFIX}/history", params={"path": "/f.txt"})).json()["items"]
    assert [stage["entry"] and stage["entry"]["size_bytes"] for stage in stages] == [5, None, 3]
    assert [stage["is_now"] for stage in stages] == [True, False, False]
    nothing = await page.get(f"{PREFIX}/history", params={"path": "/never"})
    assert nothing.status_code == 404


async def test_a_history_comes_in_pages(page: DriveClient) -> None:
    for number in range(5):
        await page.put("/f.txt", b"x" * (number + 1))
    sizes: list[int] = []
    ask: dict[str, Any] = {"path": "/f.txt", "limit": 2}
    while True:
        told = (await page.get(f"{PREFIX}/history", params=ask)).json()
        sizes += [stage["entry"]["size_bytes"] for stage in told["items"]]
        if not told["next"]:
            break
        ask["cursor"] = told["next"]
    assert sizes == [5, 4, 3, 2, 1]


async def test_many_paths_are_looked_at_in_one_call(page: DriveClient) -> None:
    await page.put("/a.txt", b"a")
    await page.put("/d/b.txt", b"b" * 20_000)
    await page.put("/a.txt", b"aa")
    asked = {"paths": ["/a.txt", "/d", "/d/b.txt", "/none"], "changed": True, "health": True}
    told = {entry["path"]: entry for entry in (await page.ask("entries", asked))["entries"]}
    assert set(told) == {"/a.txt", "/d", "/d/b.txt"}
    assert told["/a.txt"]["changed_at"] > told["/d/b.txt"]["changed_at"]
    assert told["/d"]["changed_at"] == told["/d/b.txt"]["changed_at"]
    assert (told["/a.txt"]["copies"], told["/a.txt"]["machines"]) == (1, 1)
    assert told["/a.txt"]["state"] == "degraded"
    assert told["/d"]["copies"] is None


async def test_the_trash_is_restored_and_emptied(page: DriveClient) -> None:
    for name in ("a", "b"):
        await page.put(f"/in/{name}.txt", name.encode())
        await page.change({"op": "remove", "path": f"/in/{name}.txt"})
    shown = await page.look("/drive/trash")
    items = re.findall(r'name="item" value="([^"]+)"', shown.text)
    assert len(items) == 2
    back = await page.submit("/drive/trash/restore", item=items[0], path="/in/b.txt")
    assert back.headers["location"] == "/drive/files/in"
    assert await page.names("/in") == ["b.txt"]
    await page.submit("/drive/trash/empty")
    assert "The trash is empty" in words_of(await page.look("/drive/trash"))
    gone = await page.submit("/drive/trash/restore", item=items[1], path="/in/a.txt")
    assert gone.headers["location"] == "/drive/trash"


async def test_others_see_nothing_of_a_drive(services: Services, page: DriveClient) -> None:
    await page.put("/secret.txt", b"x")
    await page.change({"op": "remove", "path": "/secret.txt"})
    item = (await page.get(f"{PREFIX}/trash")).json()["items"][0]["id"]
    await page.put("/secret.txt", b"x")
    async with pages_over(services) as other:
        await other.register("eve")
        for path in ("/drive/files/secret.txt", "/drive/rename?path=/secret.txt",
                     "/drive/share?path=/secret.txt", "/drive/versions?path=/secret.txt"):  # fmt: skip
            assert (await other.look(path)).status_code == 404, path
        assert "secret" not in words_of(await other.look("/drive"))
        await other.submit("/drive/trash/restore", item=item, path="/secret.txt")
        assert "secret" not in words_of(await other.look("/drive"))


async def test_health_says_copies_and_machines_and_never_safe(page: DriveClient) -> None:
    await page.put("/models/a.bin", b"x" * 100)
    words = words_of(await page.look("/drive/health"))
    assert "1 copy, 1 machine" in words
    assert "safe" not in words.lower()
    worse = words_of(await page.look("/drive/health?path=/models&show=worse"))
    assert "/models/a.bin" in worse
    locked = words_of(await page.look("/drive/health?show=locked"))
    assert "/models/a.bin" not in locked
    asked = await page.submit("/drive/audit", path="/models")
    assert asked.headers["location"] == "/drive/health?path=/models"


async def test_room_says_what_counts_and_how_much_stands_there(page: DriveClient) -> None:
    await page.put("/a.bin", b"x" * 2048)
    words = words_of(await page.look("/drive/room"))
    assert "of 10 GiB used" in words
    assert "Equal content counts once" in words
    assert "1 file, 2 KiB" in words_of(await page.look("/drive/use?path=/"))


async def test_private_drives_warn_before_anything_is_lost(services: Services) -> None:
    async with pages_over(services) as page:
        await page.register()
        words = words_of(await page.look("/drive/private"))
        warning = words.index("without the recovery kit a lost password loses everything")
        assert warning < words.index("tesra drive create diary --private")
    async with pages_over(services, language="zh-CN") as page:
        await page.register()
        assert "没有恢复套件" in words_of(await page.look("/drive/private"))


@pytest.mark.parametrize(
    "path",
    ["/drive", "/drive/trash", "/drive/shares", "/drive/room", "/drive/health", "/drive/private"],
)
async def test_every_place_speaks_chinese(services: Services, path: str) -> None:
    async with pages_over(services, language="zh-CN") as page:
        await page.register()
        answer = await page.look(path)
        assert answer.status_code == 200
        assert 'lang="zh-CN"' in answer.text
        assert "星盘" in words_of(answer)


async def test_two_that_delete_at_once_do_it_once(page: DriveClient) -> None:
    await page.put("/a.txt", b"a")
    both = await asyncio.gather(
        page.submit("/drive/delete", at="/", path="/a.txt"),
        page.submit("/drive/delete", at="/", path="/a.txt"),
    )
    assert sorted(answer.status_code for answer in both) == [303, 404]
    assert len((await page.get(f"{PREFIX}/trash")).json()["items"]) == 1


def address_of(answer: httpx.Response) -> str:
    """The address that the page shows once."""
    found = re.search(r'id="share-address" readonly value="http://pages.test([^"]+)"', answer.text)
    assert found, words_of(answer)
    return found[1]


async def test_a_links_address_is_shown_once(page: DriveClient) -> None:
    await page.put("/m.bin", b"content")
    fields = {"path": "/m.bin", "life": "1d", "downloads": "2", "once": "key-1"}
    made = await page.submit("/drive/share", fields)
    address = address_of(made)
    assert address_of(await page.submit("/drive/share", fields)) == address  # pressed twice
    listed = await page.look("/drive/shares")
    assert listed.text.count("/m.bin") >= 1
    assert address not in listed.text
    assert len((await page.get(f"{PREFIX}/shares")).json()["items"]) == 1
    assert (await page.get(address)).content == b"content"
    share = re.search(r'name="share" value="([^"]+)"', listed.text)
    assert share
    await page.submit("/drive/shares/revoke", share=share[1])
    assert (await page.get(address)).status_code == 410
    assert "withdrawn" in words_of(await page.look("/drive/shares"))


@pytest.mark.parametrize("downloads", ["0", "-1", "many", "1.5", "99999999999"])
async def test_an_impossible_number_of_downloads_is_refused(
    page: DriveClient, downloads: str
) -> None:
    await page.put("/m.bin", b"x")
    answer = await page.submit("/drive/share", {"path": "/m.bin", "downloads": downloads})
    assert answer.status_code == 422
    assert f'value="{downloads}"' in answer.text
    assert (await page.get(f"{PREFIX}/shares")).json()["items"] == []


async def test_a_link_is_a_page_for_browsers_and_a_download_for_programs(
    services: Services, page: DriveClient
) -> None:
    await page.put("/d/<b>a</b", b"a")
    await page.put("/d/deep/b.txt", b"bb")
    await page.submit("/drive/share", path="/d")
    made = await page.submit("/drive/share", {"path": "/d", "downloads": "2"})
    address = address_of(made)
    async with pages_over(services) as visitor:
        shown = await visitor.look(address)
        assert shown.status_code == 200
        assert "<b>a" not in shown.text
        assert "2" in words_of(shown)
        deeper = await visitor.look(f"{address}?path=deep")
        assert "b.txt" in words_of(deeper)
        file = await visitor.get(
            f"{address}?path=deep/b.txt&download=1", headers={"Accept": "text/html"}
        )
        assert (file.content, file.headers["content-type"]) == (b"bb", "application/octet-stream")
        program = await visitor.get(address)
        assert program.headers["content-type"] == "application/zip"
        over = await visitor.look(address)
        assert over.status_code == 410
        assert "used as often as it may be" in words_of(over)
        nowhere = await visitor.look("/s/nothing-like-that")
        assert nowhere.status_code == 404
        assert "There is no such link." in words_of(nowhere)


async def test_looking_at_a_links_page_is_no_download(
    services: Services, page: DriveClient
) -> None:
    await page.put("/m.bin", b"x")
    address = address_of(await page.submit("/drive/share", {"path": "/m.bin", "downloads": "1"}))
    async with pages_over(services) as visitor:
        for _ in range(3):
            assert (await visitor.look(address)).status_code == 200
        assert (await page.get(f"{PREFIX}/shares")).json()["items"][0]["downloads"] == 0


async def test_a_links_password_is_asked_for_once_in_a_browser(
    services: Services, page: DriveClient
) -> None:
    await page.put("/d/m.bin", b"content")
    fields = {"path": "/d", "password": "sesame 芝麻"}
    address = address_of(await page.submit("/drive/share", fields))
    async with pages_over(services) as visitor:
        asked = await visitor.look(address)
        assert "m.bin" not in asked.text
        button = await visitor.get(f"{address}?download=1", headers={"Accept": "text/html"})
        assert (button.status_code, button.headers["location"]) == (303, address)
        wrong = await visitor.submit(f"{address}/open", password="wrong")
        assert wrong.status_code == 401
        assert "This is not the link's password." in words_of(wrong)
        right = await visitor.submit(f"{address}/open", password="sesame 芝麻")
        assert right.headers["location"] == address
        cookie = right.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert f"Path={address}" in cookie
        assert "m.bin" in words_of(await visitor.look(address))
        got = await visitor.get(f"{address}?path=m.bin&download=1")
        assert got.content == b"content"
    async with pages_over(services) as other:
        assert "m.bin" not in (await other.look(address)).text
        assert (await other.get(address)).status_code == 401
        forged = await other.post(f"{address}/open", data={"password": "sesame 芝麻"})
        assert forged.status_code == 403


async def test_a_password_shown_for_one_link_opens_no_other(
    services: Services, page: DriveClient
) -> None:
    await page.put("/one.bin", b"1")
    await page.put("/two.bin", b"2")
    one, two = [
        address_of(await page.submit("/drive/share", {"path": path, "password": password}))
        for path, password in (("/one.bin", "first"), ("/two.bin", "second"))
    ]
    async with pages_over(services) as visitor:
        await visitor.look(one)
        opened = await visitor.submit(f"{one}/open", password="first")
        cookie = opened.headers["set-cookie"].split(";")[0]
        moved = await visitor.get(f"{two}?download=1", headers={"Cookie": cookie})
        assert moved.status_code == 401
        assert (await visitor.get(f"{one}?download=1", headers={"Cookie": cookie})).content == b"1"


async def test_files_are_found_by_parts_of_their_names(page: DriveClient) -> None:
    await page.put("/models/最好 Best<b>.pt", b"x" * 2000)
    await page.put("/other.txt", b"x")
    found = await page.look("/drive/search?q=best+最好")
    assert "Best&lt;b&gt;.pt" in found.text
    assert "<b>.pt" not in found.text
    assert "other.txt" not in found.text
    assert "Nothing is named like that" in words_of(await page.look("/drive/search?q=nowhere"))
    assert "What are you looking for?" in words_of(await page.look("/drive/search"))
    assert (await page.look("/drive/search?q=a&cursor=eHh4")).status_code == 422


async def test_many_hits_come_in_pages(page: DriveClient) -> None:
    await page.change(*[{"op": "mkdir", "path": f"/found-{n:03}"} for n in range(120)])
    url, seen = "/drive/search?q=found", []
    while url:
        answer = await page.look(url)
        seen += re.findall(r'href="(/drive/files/found-\d+)"', answer.text)
        following = re.search(r'rel="next" href="([^"]+)"', answer.text)
        url = following[1].replace("&amp;", "&") if following else ""
    assert seen == [f"/drive/files/found-{n:03}" for n in range(120)]
