"""训练平台 as people use it: a folder comes in, its run is configured, started, paid for."""

import io
import random
import re
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Page, expect

from factories.browsing import PASSWORD, Tabs, serious_faults

pytestmark = [pytest.mark.e2e, pytest.mark.browser]

DIGITS = Path(__file__).resolve().parent.parent.parent / "examples" / "pytorch-digits"
ENDED_MS = 600_000  # the first run builds the engine's environment
WORDS = {
    "en": {
        "import": "Import",
        "configure": "Go on to the configuration",
        "start": "Start",
        "ended": "Succeeded",
        "download": "Download model",
        "pay": "Pay ¥",
        "paid": "The bill is paid.",
        "files": "files, ",
        "devices": "Number of devices",
        "again": "Run again",
        "cost": "Highest cost (CNY)",
    },
    "zh-CN": {
        "import": "导入",
        "configure": "前往配置",
        "start": "开始训练",
        "ended": "成功",
        "download": "下载模型",
        "pay": "支付 ¥",
        "paid": "账单已付清。",
        "files": "个文件",
        "devices": "设备数量",
        "again": "再次训练",
        "cost": "费用上限（元）",
    },
}


def project(site: str, token: str, name: str, text: str = "print('hello')\n") -> str:
    """A project of one file, imported over REST; its id."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("train.py")
        entry.size = len(text.encode())
        archive.addfile(entry, io.BytesIO(text.encode()))
    answer = httpx.post(
        f"{site}/api/v1/projects/upload",
        files={"file": ("project.tar", packed.getvalue())},
        data={"name": name},
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
    )
    assert answer.status_code == 201, answer.text
    made: str = answer.json()["id"]
    return made


def runs(site: str, token: str) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token}"}
    found: list[dict[str, Any]] = httpx.get(
        f"{site}/api/v1/runs", headers=headers, timeout=60
    ).json()["items"]
    return found


def stop_all(site: str, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    for run in runs(site, token):
        httpx.post(f"{site}/api/v1/runs/{run['id']}/stop", headers=headers, timeout=60)


async def choose_digits(page: Page) -> None:
    await page.locator("[data-choose-folder]").set_input_files(DIGITS)


@pytest.mark.parametrize(("language", "devices"), [("en", "1"), ("zh-CN", "2")])
async def test_a_folder_becomes_a_model(tabs: Tabs, site: str, language: str, devices: str) -> None:
    words = WORDS[language]
    _, token = tabs.person()
    page = await tabs.open("/training", language=language, token=token)
    assert await serious_faults(page) == []
    await page.goto("/training/import")
    await choose_digits(page)
    await expect(page.get_by_text(words["files"], exact=False).first).to_be_visible()
    assert await serious_faults(page) == []
    await page.locator("[data-go]").click()
    go_on = page.get_by_role("link", name=words["configure"])
    await expect(go_on).to_be_visible()
    assert await serious_faults(page) == []
    await go_on.click()
    await expect(page.locator("#f-entry")).to_have_value("train.py")
    await expect(page.locator("#f-output")).to_have_value("out")
    await page.get_by_label(words["devices"]).fill(devices)
    await page.get_by_role("button", name="+ epochs = 12").click()
    await page.locator('[name="param_value"]').fill("2")
    await expect(page.locator("[data-quote]")).to_contain_text("¥")
    assert await serious_faults(page) == []
    await page.get_by_role("button", name=words["start"], exact=True).click()
    await page.wait_for_url("**/training/runs/run_*")
    run = page.url.rsplit("/", 1)[1].partition("#")[0]

    await page.goto("/training")
    row = page.locator(f'tr[data-run="{run}"]')
    await expect(row).to_contain_text(words["ended"], timeout=ENDED_MS)  # without a reload
    assert await serious_faults(page) == []
    async with page.expect_download() as downloading:
        await row.get_by_role("link", name=words["download"]).click()
    assert (await downloading.value).suggested_filename.endswith(".zip")

    await row.get_by_role("link", name=words["again"]).click()
    await page.get_by_label(words["cost"]).fill("1.25")
    start = page.get_by_role("button", name=words["start"], exact=True)
    await expect(start).to_be_disabled()
    assert await serious_faults(page) == []
    await page.get_by_role("button", name=words["pay"]).click()
    await expect(page.get_by_text(words["paid"])).to_be_visible()
    await expect(start).to_be_enabled()
    await expect(page.get_by_label(words["cost"])).to_have_value("1.25")
    await expect(page.locator('[name="param_value"]')).to_have_value("2")
    await start.click()
    await page.wait_for_url(lambda url: "/training/runs/run_" in url and run not in url)
    stop_all(site, token)


async def test_a_double_click_on_start_makes_one_run(tabs: Tabs, site: str) -> None:
    _, token = tabs.person()
    made = project(site, token, "twice")
    page = await tabs.open(f"/training/new?project={made}", token=token)
    await page.get_by_role("button", name="Start", exact=True).dblclick()
    await page.wait_for_url("**/training/runs/run_*")
    assert len(runs(site, token)) == 1
    stop_all(site, token)


async def test_a_language_switch_in_the_middle_of_the_form_loses_nothing(
    tabs: Tabs, site: str
) -> None:
    _, token = tabs.person()
    made = project(site, token, "spoken")
    page = await tabs.open(f"/training/new?project={made}", token=token)
    await page.get_by_label("Number of devices").fill("2")
    for name, value in (("alpha", "0.5"), ("beta", "7")):
        await page.get_by_role("button", name="Add a parameter").click()
        row = page.locator('[data-rows="param"] [data-row]').last
        await row.get_by_label("Name of the parameter").fill(name)
        await row.get_by_label("Value").fill(value)
    await page.get_by_role("button", name="中文").click()
    await expect(page.get_by_label("设备数量")).to_have_value("2")
    names = page.get_by_label("参数名")
    await expect(names).to_have_count(2)
    await expect(names.nth(1)).to_have_value("beta")
    await expect(page.locator('[name="param_value"]').nth(0)).to_have_value("0.5")


async def test_an_error_stands_at_its_field_and_secrets_stay(tabs: Tabs, site: str) -> None:
    _, token = tabs.person()
    made = project(site, token, "wrong")
    page = await tabs.open(f"/training/new?project={made}", token=token)
    await page.locator("#advanced > summary").click()
    await page.get_by_role("button", name="Add a secret").click()
    secret = page.locator('[name="secret_value"]')
    await page.locator('[name="secret_name"]').fill("KEY")
    await secret.fill("hush")
    await page.get_by_label("Entry").fill("nowhere.py")
    await page.get_by_role("button", name="Start", exact=True).click()
    await expect(page.locator('[data-error="entry"]')).to_contain_text("is not in the project")
    await expect(page.get_by_label("Entry")).to_be_focused()
    await expect(secret).to_have_value("hush")
    assert await serious_faults(page) == []
    await page.get_by_label("Entry").fill("train.py")
    await page.get_by_role("button", name="Start", exact=True).click()
    await page.wait_for_url("**/training/runs/run_*")
    assert runs(site, token)[0]["secrets"] == ["KEY"]
    stop_all(site, token)
    tabs.allow("422")


async def test_an_address_that_could_not_be_cloned_is_still_there_to_be_mended(
    tabs: Tabs,
) -> None:
    _, token = tabs.person()
    page = await tabs.open("/training/import", token=token)
    address = "http://127.0.0.1:1/nobody.git"
    await page.get_by_label("Address of a public repository").fill(address)
    await page.get_by_role("button", name="Clone").click()
    await page.get_by_role("link", name="Try again").click()
    await expect(page.get_by_label("Address of a public repository")).to_have_value(address)


async def test_tags_and_notes_are_written_in_place_and_html_is_text(tabs: Tabs, site: str) -> None:
    _, token = tabs.person()
    nasty = "<img src=x onerror=alert(1)>"
    made = project(site, token, nasty)
    page = await tabs.open(f"/training/new?project={made}", token=token)
    await page.get_by_role("button", name="Start", exact=True).click()
    await page.wait_for_url("**/training/runs/run_*")
    stop_all(site, token)
    await page.goto("/training")
    await expect(page.get_by_role("link", name=nasty)).to_be_visible()
    await page.get_by_role("button", name="Tags").click()
    await page.get_by_role("textbox", name="Tags").fill(f"paper, {nasty}")
    await page.get_by_role("textbox", name="Note").fill(nasty)
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("link", name="paper")).to_be_visible()
    await page.get_by_role("link", name="paper").click()
    await expect(page.locator(".run-note")).to_have_text(nasty)
    assert await page.locator("img[src=x]").count() == 0


async def test_data_is_chosen_from_the_drive(tabs: Tabs, site: str) -> None:
    _, token = tabs.person()
    made = project(site, token, "data")
    put = httpx.put(
        f"{site}/api/v1/drive/content?path=/sets/digits/a.csv",
        content=b"1,2\n",
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
    )
    assert put.is_success, put.text
    page = await tabs.open(f"/training/new?project={made}", token=token)
    await page.get_by_role("button", name="Add a data set").click()
    await page.get_by_role("button", name="Choose", exact=True).click()
    await page.get_by_role("button", name="sets/").click()
    await page.get_by_role("button", name="digits/").click()
    await expect(page.get_by_role("button", name="a.csv")).to_be_visible()
    assert await serious_faults(page) == []
    await page.get_by_role("button", name="Take this folder").click()
    await expect(page.get_by_label("Path in the drive")).to_have_value("xingpan:/sets/digits")


async def test_what_is_ignored_stays_and_long_names_arrive(
    tabs: Tabs, site: str, tmp_path: Path
) -> None:
    _, token = tabs.person()
    root = tmp_path / "mine"
    long = "深" * 40 + "/" + "名" * 60 + ".txt"
    ignore = "# none\n*.log\n/data/\nlogs/**\n!keep.log\nbuild/x?.txt\n"
    kept = {
        ".gitignore": ignore,
        "train.py": "print(1)\n",
        "keep.log": "k",
        "sub/data/a": "d",
        long: "l",
    }
    out = [".git/HEAD", "__pycache__/a.pyc", "sub/node_modules/m.js", ".venv/x", "data/b", "a.log"]
    out += ["sub/b.log", "logs/c", "build/x1.txt"]
    for name, text in {**kept, **dict.fromkeys(out, "x")}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    page = await tabs.open("/training/import", token=token)
    await page.locator("[data-choose-folder]").set_input_files(root)
    await expect(page.get_by_text(f"{len(kept)} files,")).to_be_visible()
    await page.locator("[data-go]").click()
    await page.wait_for_url("**/training/projects/prj_*")
    headers = {"Authorization": f"Bearer {token}"}
    snapshot = httpx.get(f"{site}/api/v1/projects/mine", headers=headers, timeout=60).json()[
        "snapshot"
    ]
    listed = httpx.get(
        f"{site}/api/v1/drive/snapshots/{snapshot}/files", headers=headers, timeout=60
    ).json()["items"]
    assert {one["path"] for one in listed if one["kind"] == "file"} == set(kept)


async def test_an_upload_goes_on_after_a_pause_and_a_reload(
    tabs: Tabs, site: str, tmp_path: Path
) -> None:
    _, token = tabs.person()
    (tmp_path / "weights.bin").write_bytes(random.randbytes(4_000_000))
    (tmp_path / "train.py").write_text("print(1)\n")
    packed = tmp_path / "large.tar"
    with tarfile.open(packed, "w") as archive:
        archive.add(tmp_path / "train.py", "train.py")
        archive.add(tmp_path / "weights.bin", "weights.bin")
    page = await tabs.open("/training/import", token=token)
    network = await page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1}
    await network.send("Network.enable")
    await network.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": 500_000})
    await page.locator("[data-choose-archive]").set_input_files(packed)
    await page.locator("[data-go]").click()
    some = re.compile(r"^[12](\.\d)? MiB of")
    await expect(page.locator("[data-progress-text]")).to_have_text(some)
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_text("Paused.")).to_be_visible()
    await page.reload()
    offsets: list[str] = []
    page.on(
        "request",
        lambda sent: sent.method == "PATCH" and offsets.append(sent.headers["upload-offset"]),
    )
    await network.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
    await page.locator("[data-choose-archive]").set_input_files(packed)
    await page.locator("[data-go]").click()
    await page.wait_for_url("**/training/projects/prj_*")
    assert int(offsets[0]) > 0


async def test_a_session_that_ends_in_the_middle_of_the_form_loses_nothing(
    tabs: Tabs, site: str
) -> None:
    name, token = tabs.person()
    made = project(site, token, "kept")
    page = await tabs.open(f"/training/new?project={made}", token=token)
    await page.get_by_label("Arguments").fill("--seed 7")
    await expect(page.locator("[data-quote]")).to_be_visible()
    await page.context.clear_cookies(name="tesra_session")
    await page.get_by_label("Highest cost (CNY)").fill("2.5")  # and the quote is asked for
    await expect(page.get_by_text("Your session has ended.")).to_be_visible()
    other = await page.context.new_page()
    await other.goto("/sign-in")
    await other.get_by_label("Name").fill(name)
    await other.get_by_label("Password").fill(PASSWORD)
    await other.get_by_role("button", name="Sign in", exact=True).click()
    await expect(other.get_by_role("heading", name=name)).to_be_visible()
    await page.get_by_role("button", name="I have signed in").click()
    await page.get_by_role("button", name="Start", exact=True).click()
    await page.wait_for_url("**/training/runs/run_*")
    [run] = runs(site, token)
    assert (run["args"], run["max_cost_cny"]) == (["--seed", "7"], "2.50")
    stop_all(site, token)
    tabs.allow("401")


@pytest.mark.parametrize("language", ["en", "zh-CN"])
async def test_projects_imports_and_the_account_can_be_read_by_all(
    tabs: Tabs, site: str, language: str
) -> None:
    _, token = tabs.person()
    made = project(site, token, "数字 digits")
    page = await tabs.open("/training/projects", language=language, token=token)
    await expect(page.get_by_role("link", name="数字 digits")).to_be_visible()
    answer = await page.request.post(
        f"{site}/api/v1/projects/git",
        data={"url": "https://127.0.0.1:9/nobody/nothing.git"},
        headers={"Authorization": f"Bearer {token}"},
    )
    job = (await answer.json())["id"]
    for place in (
        "/training/projects",
        f"/training/projects/{made}",
        f"/training/imports/{job}",
        "/account",
        "/account/access",
        "/account/notices",
        "/account/second-factor",
    ):
        await page.goto(place)
        assert await serious_faults(page) == [], place
        await page.set_viewport_size({"width": 390, "height": 800})
        wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert await page.evaluate(wider) <= 0, place
        await page.set_viewport_size({"width": 1280, "height": 900})
