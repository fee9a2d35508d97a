"""The drive in Chromium: what is dropped arrives, broken uploads go on, nothing of a user's runs."""

import asyncio
import hashlib
import os
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest
from playwright.async_api import Page, expect

from factories.browsing import Tabs, serious_faults
from factories.command_line import CommandLine

pytestmark = [pytest.mark.e2e, pytest.mark.browser]

LARGE_BYTES = 64 * 2**20
LONG_MS = 120_000  # 64 MiB through a busy machine, encrypted and copied to other peers

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "all done": "All done: 40 files are in the drive.",
        "move": "2 items moved to the trash.",
        "undo": "Undo",
        "delete": "Delete",
        "back": "2 items are back.",
        "rename": "Rename",
        "new name": "New name",
        "choose": "Choose",
    },
    "zh-CN": {
        "all done": "全部完成：40 个文件已存入星盘。",
        "move": "2 项已移入回收站。",
        "undo": "撤销",
        "delete": "删除",
        "back": "2 项已恢复。",
        "rename": "重命名",
        "new name": "新名称",
        "choose": "选择",
    },
}


class Files:
    """A person's drive over the API."""

    def __init__(self, tabs: Tabs) -> None:
        self.name, self.token = tabs.person()
        self._http = httpx.Client(
            base_url=f"{tabs.site}/api/v1/drive",
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=60,
        )

    def put(self, path: str, content: bytes) -> None:
        answer = self._http.put("/content", params={"path": path}, content=content)
        assert answer.status_code == 200, answer.text

    def content(self, path: str) -> bytes:
        answer = self._http.get("/content", params={"path": path})
        assert answer.status_code == 200, answer.text
        return answer.content

    def names(self, path: str = "/") -> list[str]:
        answer = self._http.get("/tree", params={"path": path, "limit": 200})
        return [entry["name"] for entry in answer.json()["items"]]

    def share(self, path: str, **wishes: Any) -> str:
        answer = self._http.post("/shares", json={"path": path, **wishes})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["address"])


async def drop(page: Page, *paths: Path) -> None:
    """As a person drops files and folders of the disk onto the page."""
    session = await page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        where = {"type": kind, "x": 400, "y": 400, "data": data}
        await session.send("Input.dispatchDragEvent", where)


async def slowly(page: Page, bytes_a_second: int) -> None:
    """The line takes so much from now on; -1 is all it can."""
    session = await page.context.new_cdp_session(page)
    line = {"offline": False, "latency": 0, "downloadThroughput": -1}
    await session.send(
        "Network.emulateNetworkConditions", {**line, "uploadThroughput": bytes_a_second}
    )


@pytest.mark.parametrize("language", ["en", "zh-CN"])
async def test_a_dropped_folder_arrives_and_what_is_deleted_comes_back(
    tabs: Tabs, tmp_path: Path, language: str
) -> None:
    files, words = Files(tabs), WORDS[language]
    folder = tmp_path / "数据 set"
    for number in range(40):
        place = folder / ("deep/er" if number % 2 else "deep")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"file-{number:02}.txt").write_text(f"{number}\n" * (number + 1))
    page = await tabs.open("/drive", language=language, token=files.token)
    assert await serious_faults(page) == []
    await drop(page, folder)
    await expect(page.get_by_text(words["all done"])).to_be_visible(timeout=LONG_MS)
    assert files.content("/数据 set/deep/er/file-07.txt") == b"7\n" * 8
    await page.get_by_role("link", name="数据 set").click()
    await page.get_by_role("link", name="deep").click()
    for number in ("00", "02"):
        await page.get_by_label(f"{words['choose']} file-{number}.txt").check()
    await page.get_by_role("toolbar").get_by_role("button", name=words["delete"]).click()
    await expect(page.get_by_text(words["move"])).to_be_visible()
    await expect(page.get_by_role("link", name="file-00.txt")).to_have_count(0)
    await page.get_by_role("button", name=words["undo"]).click()
    await expect(page.get_by_text(words["back"])).to_be_visible()
    await expect(page.get_by_role("link", name="file-00.txt")).to_be_visible()
    assert await serious_faults(page) == []
    await page.get_by_role("link", name="file-00.txt").click()
    await page.get_by_role("link", name=words["rename"]).click()
    await page.get_by_label(words["new name"]).fill("另一个.txt")
    await page.get_by_role("button", name=words["rename"]).click()
    await expect(page.get_by_role("link", name="另一个.txt")).to_be_visible()
    assert files.content("/数据 set/deep/另一个.txt") == b"0\n"


async def test_a_large_upload_goes_on_after_a_pause_and_a_reload(
    tabs: Tabs, tmp_path: Path
) -> None:
    files, large = Files(tabs), tmp_path / "large.bin"
    large.write_bytes(os.urandom(LARGE_BYTES))
    page = await tabs.open("/drive", token=files.token)
    page.on("dialog", lambda dialog: dialog.accept())  # leaving while it uploads is asked about
    await slowly(page, 6 * 2**20)
    await page.locator("#pick-files").set_input_files(large)
    row = page.get_by_role("listitem").filter(has_text="large.bin")
    sent = re.compile(r"([3-5][0-9])(\.\d)? MiB of 64 MiB")
    await expect(row).to_contain_text(sent, timeout=LONG_MS)
    await row.get_by_role("button", name="Pause").click()
    await expect(row).to_contain_text("paused")
    await page.reload()
    again = page.get_by_role("region", name="Uploads that broke off")
    await expect(again.get_by_text("/large.bin")).to_be_visible()
    assert await serious_faults(page) == []
    await slowly(page, -1)
    methods: list[str] = []
    page.on("request", lambda sent: "/uploads" in sent.url and methods.append(sent.method))
    async with page.expect_file_chooser() as choosing:
        await again.get_by_role("button", name="Choose the file").click()
    await (await choosing.value).set_files(large)
    done = page.get_by_text("All done: 1 files are in the drive.")
    await expect(done).to_be_visible(timeout=LONG_MS)
    assert "POST" not in methods  # it went on: nothing was begun anew
    assert hashlib.sha256(files.content("/large.bin")).digest() == _sha256(large)


async def test_a_session_that_ends_in_the_middle_of_an_upload_costs_nothing(
    tabs: Tabs, tmp_path: Path
) -> None:
    files, large = Files(tabs), tmp_path / "large.bin"
    large.write_bytes(os.urandom(LARGE_BYTES))
    page = await tabs.open("/drive", token=files.token)
    await slowly(page, 6 * 2**20)
    await page.locator("#pick-files").set_input_files(large)
    row = page.get_by_role("listitem").filter(has_text="large.bin")
    await expect(row).to_contain_text(re.compile(r"\d MiB of 64 MiB"), timeout=LONG_MS)
    cookies = await page.context.cookies()
    await page.context.clear_cookies(name="tesra_session")
    await expect(page.get_by_text("Your session has ended.")).to_be_visible(timeout=LONG_MS)
    await page.context.add_cookies([one for one in cookies if one["name"] == "tesra_session"])  # type: ignore[misc]
    await slowly(page, -1)
    await page.get_by_role("button", name="I have signed in").click()
    done = page.get_by_text("All done: 1 files are in the drive.")
    await expect(done).to_be_visible(timeout=LONG_MS)
    assert hashlib.sha256(files.content("/large.bin")).digest() == _sha256(large)
    tabs.allow("401")


async def test_an_upload_goes_on_when_the_server_is_started_anew(
    tabs: Tabs, network: CommandLine, tmp_path: Path
) -> None:
    files, large = Files(tabs), tmp_path / "large.bin"
    large.write_bytes(os.urandom(LARGE_BYTES))
    page = await tabs.open("/drive", token=files.token)
    methods: list[str] = []
    page.on("request", lambda sent: "/uploads" in sent.url and methods.append(sent.method))
    await slowly(page, 6 * 2**20)
    await page.locator("#pick-files").set_input_files(large)
    row = page.get_by_role("listitem").filter(has_text="large.bin")
    sent = re.compile(r"([3-5][0-9])(\.\d)? MiB of 64 MiB")  # a part has arrived
    await expect(row).to_contain_text(sent, timeout=LONG_MS)
    server = network.pids()["server"]
    assert server is not None
    psutil.Process(server).kill()
    await expect(page.get_by_text("The server does not answer. Trying again …")).to_be_visible()
    await asyncio.to_thread(network.done, "up", "--detach")
    await slowly(page, -1)
    done = page.get_by_text("All done: 1 files are in the drive.")
    await expect(done).to_be_visible(timeout=LONG_MS)
    assert methods.count("POST") == 1  # it went on: nothing was begun anew
    assert hashlib.sha256(files.content("/large.bin")).digest() == _sha256(large)
    tabs.allow("ERR_", "Failed to load resource", "net::")


async def test_what_does_not_fit_is_refused_and_what_is_canceled_leaves_nothing(
    tabs: Tabs, tmp_path: Path
) -> None:
    files, huge, large = Files(tabs), tmp_path / "huge.bin", tmp_path / "large.bin"
    with huge.open("wb") as file:
        file.truncate(11 * 2**30)  # more than the free 10 GiB, and nothing on this disk
    large.write_bytes(os.urandom(LARGE_BYTES))
    page = await tabs.open("/drive", token=files.token)
    await page.locator("#pick-files").set_input_files(huge)
    await expect(page.get_by_text("This is 11 GiB, and 10 GiB are free.")).to_be_visible()
    refused = page.get_by_role("listitem").filter(has_text="huge.bin")
    await expect(refused).to_contain_text("The drive is full")
    await expect(page.get_by_text("1 files did not arrive")).to_be_visible()
    assert await serious_faults(page) == []
    await page.locator("[data-upload-close]").click()
    await slowly(page, 6 * 2**20)
    await page.locator("#pick-files").set_input_files(large)
    row = page.get_by_role("listitem").filter(has_text="large.bin")
    await expect(row).to_contain_text(re.compile(r"\d MiB of 64 MiB"), timeout=LONG_MS)
    async with page.expect_event("dialog") as asking:
        await page.close(run_before_unload=True)
    dialog = await asking.value
    assert dialog.type == "beforeunload"
    await dialog.dismiss()  # one stays
    async with page.expect_response(lambda answer: answer.request.method == "DELETE") as ending:
        await row.get_by_role("button", name="Cancel").click()
    assert (await ending.value).status == 204
    await expect(row).to_contain_text("canceled")
    await expect(page.get_by_text("Finished.", exact=True)).to_be_visible()
    asked: list[str] = []
    page.on("dialog", lambda one: asked.append(one.type))
    await page.reload()  # nothing is on its way: nobody asks
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    await expect(page.get_by_role("region", name="Uploads that broke off")).to_be_hidden()
    assert asked == []
    assert files.names() == []
    tabs.allow("413", "507", "409", "422")


async def test_a_name_that_is_taken_is_asked_about_and_versions_come_back(
    tabs: Tabs, tmp_path: Path
) -> None:
    files = Files(tabs)
    files.put("/notes.txt", b"the first")
    (tmp_path / "notes.txt").write_text("the second")
    page = await tabs.open("/drive", token=files.token)
    await drop(page, tmp_path / "notes.txt")
    await page.get_by_role("button", name="Keep both").click()
    await expect(page.get_by_role("link", name="notes (2).txt")).to_be_visible(timeout=LONG_MS)
    await drop(page, tmp_path / "notes.txt")
    await page.get_by_role("button", name="Replace").click()
    await expect(page.get_by_text("All done: 2 files are in the drive.")).to_be_visible()
    assert files.content("/notes.txt") == b"the second"
    await page.goto("/drive/versions?path=/notes.txt")
    assert await serious_faults(page) == []
    await page.get_by_role("button", name=re.compile("Restore version")).click()
    await page.get_by_role("button", name="Yes, do it").click()
    await expect(page.get_by_text("Restored as it was")).to_be_visible()
    assert files.content("/notes.txt") == b"the first"


async def test_nothing_of_a_users_runs_in_a_preview(tabs: Tabs) -> None:
    files = Files(tabs)
    files.put("/page.html", b"<title>x</title><script>document.title='pwned'</script><h1>hi</h1>")
    files.put(
        "/image.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload=\"document.title='pwned'\"/>"
    )
    files.put("/<img src=x onerror=alert(1)>.md", b"# Head\n<img src=x onerror=alert(1)>")
    page = await tabs.open("/drive", token=files.token)
    for name, shown in (
        ("page.html", "document.title='pwned'"),
        ("image.svg", "document.title='pwned'"),
        ("<img src=x onerror=alert(1)>.md", "<img src=x onerror=alert(1)>"),
    ):
        await page.goto("/drive")
        await page.get_by_role("link", name=name).click()
        await expect(page.locator("[data-preview]").get_by_text(shown)).to_be_visible()
        assert "pwned" not in await page.title()
        assert await serious_faults(page) == []
    async with page.expect_download() as downloading:
        await page.evaluate("location.href = '/api/v1/drive/content?path=/page.html'")
    assert (await downloading.value).suggested_filename == "page.html"


async def test_a_link_with_a_password_opens_in_another_browser(tabs: Tabs) -> None:
    files = Files(tabs)
    files.put("/shared/model.bin", b"weights")
    page = await tabs.open("/drive", token=files.token)
    await page.goto("/drive/share?path=/shared")
    assert await serious_faults(page) == []
    await page.get_by_label("Password").fill("sesame")
    await page.get_by_role("button", name="Make the link").click()
    address = await page.get_by_label("Address").input_value()
    assert await serious_faults(page) == []
    visitor = await tabs.open(address, language="zh-CN")
    assert await serious_faults(visitor) == []
    await visitor.get_by_label("链接密码").fill("wrong")
    await visitor.get_by_role("button", name="打开").click()
    await expect(visitor.get_by_role("textbox", name="链接密码")).to_have_attribute(
        "aria-invalid", "true"
    )
    tabs.allow("401")
    await visitor.get_by_label("链接密码").fill("sesame")
    await visitor.get_by_role("button", name="打开").click()
    await expect(visitor.get_by_text("model.bin")).to_be_visible()
    assert await serious_faults(visitor) == []
    async with visitor.expect_download() as downloading:
        await visitor.get_by_role("link", name="下载 model.bin").click()
    path = await (await downloading.value).path()
    assert path.read_bytes() == b"weights"


@pytest.mark.parametrize("language", ["en", "zh-CN"])
async def test_health_room_trash_and_private_drives_can_be_read_by_all(
    tabs: Tabs, language: str
) -> None:
    files = Files(tabs)
    files.put(f"/{uuid4().hex}.bin", b"x" * 2048)
    page = await tabs.open("/drive/health", language=language, token=files.token)
    said = {"en": "copies, 1 machine", "zh-CN": "份副本，1 台机器"}[language]
    await expect(page.get_by_text(re.compile(rf"\d {said}")).first).to_be_visible()
    for place in (
        "/drive/health",
        "/drive/room",
        "/drive/trash",
        "/drive/shares",
        "/drive/private",
    ):
        await page.goto(place)
        assert await serious_faults(page) == [], place
        await page.set_viewport_size({"width": 390, "height": 800})
        wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert await page.evaluate(wider) <= 0, place
        await page.set_viewport_size({"width": 1280, "height": 900})


def _sha256(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
