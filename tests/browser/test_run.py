"""A run as its user sees it: live, over a killed server, tuned, stopped, downloaded, compared."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from playwright.async_api import CDPSession, Page, expect

from factories.browsing import Tabs, serious_faults
from factories.command_line import CommandLine
from tesra.sdk.client import Client

pytestmark = [pytest.mark.e2e, pytest.mark.browser]

# Prints so many numbered lines a second and logs a metric, until lr is 1; half of it in colours.
SCRIPT = """
import itertools, os, pathlib, time, tesra
rate = tesra.params.rate
start, said = time.monotonic(), 0
begin = int(pathlib.Path(tesra.resume_from).read_text()) if tesra.resume_from else 0
print(f"goes on from step {begin} with {tesra.params.lr}", flush=True)
for step in itertools.count(begin + 1):
    due = int((time.monotonic() - start) * rate)
    while said < due:
        said += 1
        print(f"line {said} \\x1b[3{said % 7 + 1}mof many\\x1b[0m <b>not html</b>", flush=said == due)
    tesra.log({"loss": 1 / step, "lr": tesra.params.lr}, step=step)
    tesra.step()
    if tesra.params.save and step % 20 == 0:
        whole = pathlib.Path(tesra.checkpoint_dir, f"step-{step}.json")
        whole.with_suffix(".tmp").write_text(str(step))
        os.replace(whole.with_suffix(".tmp"), whole)
        pathlib.Path(tesra.checkpoint_dir, f"step-{step - 20}.json").unlink(missing_ok=True)
    if tesra.params.lr == 1.0:
        break
    time.sleep(0.05)
print("the last line", flush=True)
pathlib.Path("out").mkdir(exist_ok=True)
pathlib.Path("out", "model.txt").write_text("weights")
"""
SHOWN = r"""() => [...document.querySelectorAll('[data-log] .ln')]
    .map((one) => one.textContent.match(/^line (\d+) /)).filter(Boolean).map((found) => Number(found[1]))"""
PAINTED = """(canvas) => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const colours = new Map();
  for (let at = 0; at < data.length; at += 4) {
    if (data[at + 3] < 200) continue;
    const colour = data.slice(at, at + 3).join();
    colours.set(colour, (colours.get(colour) ?? 0) + 1);
  }
  return Object.fromEntries(colours);
}"""
AT_END = """() => {
  const box = document.querySelector('[data-log]');
  return box.scrollTop > 0 && box.scrollHeight - box.scrollTop - box.clientHeight < 30;
}"""
GAPS = """() => new Promise((done) => {
  const gaps = [];
  let last = performance.now();
  const from = last;
  const look = (now) => {
    gaps.push(now - last);
    last = now;
    if (now - from < 8000) requestAnimationFrame(look);
    else done(gaps.sort((one, other) => one - other));
  };
  requestAnimationFrame(look);
})"""


@dataclass
class Trainee:
    """Somebody with a project, and runs of it."""

    site: str
    token: str
    project: str

    def begin(self, *, checkpoint_every_s: int = 300, **params: Any) -> str:
        with Client(self.site, self.token) as client:
            run = client.run(
                self.project,
                "train.py",
                engine="pytorch",
                output="out",
                launch="gang",
                params={"lr": 0.1, "rate": 50, "save": False} | params,
                ranges={"lr": {"low": 1e-4, "high": 1.0}},
                param_format="none",
                checkpoint_every_s=checkpoint_every_s,
            )
        return str(run.id)

    def end(self, run: str) -> None:
        with Client(self.site, self.token) as client:
            client.tune(run, {"lr": 1.0})

    def wait(self, run: str) -> None:
        with Client(self.site, self.token) as client:
            client.wait(run, timeout_s=120)


@pytest_asyncio.fixture
async def trainee(tabs: Tabs, site: str, tmp_path: Path) -> AsyncIterator[Trainee]:
    _, token = tabs.person()
    (tmp_path / "train.py").write_text(SCRIPT)
    with Client(site, token) as client:
        project = client.import_project(str(tmp_path)).id
    yield Trainee(site, token, project)
    with Client(site, token) as client:
        for run in client.runs():
            client.stop(run.id)


async def lines_of(page: Page) -> list[int]:
    numbers: list[int] = await page.evaluate(SHOWN)
    return numbers


async def newest(page: Page, above: int) -> int:
    """Wait until a line with a higher number is shown; its number."""
    await page.wait_for_function(
        f"(above) => Math.max(0, ...({SHOWN})()) > above", arg=above, timeout=120_000
    )
    return max(await lines_of(page))


def without_gaps(numbers: list[int]) -> bool:
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.mark.timeout(600)
async def test_live_lines_are_whole_and_in_order_across_a_killed_server(
    tabs: Tabs, trainee: Trainee, network: CommandLine
) -> None:
    run = trainee.begin(rate=10)  # few enough for all to stand on the page
    page = await tabs.open(f"/training/runs/{run}", token=trainee.token)
    seen = await newest(page, 20)
    server = network.pids()["server"]
    assert server is not None
    psutil.Process(server).kill()
    await expect(page.get_by_text("Reconnecting")).to_be_visible()
    network.done("up", "--detach")
    await expect(page.get_by_text("Live", exact=True)).to_be_visible(timeout=120_000)
    await newest(page, seen + 100)
    shown = await lines_of(page)
    assert shown[0] == 1
    assert without_gaps(shown)
    trainee.end(run)
    await expect(page.get_by_text("the last line")).to_be_visible(timeout=120_000)
    shown = await lines_of(page)
    assert without_gaps(shown)
    await expect(page.get_by_text("The run has ended; this is all of its log.")).to_be_visible()
    await page.reload()
    await expect(page.get_by_text("the last line")).to_be_visible()
    await page.wait_for_function(AT_END)
    tabs.allow("ERR_", "Failed to load resource", "net::")


@pytest.mark.timeout(600)
async def test_the_log_is_paused_searched_and_followed_again(tabs: Tabs, trainee: Trainee) -> None:
    run = trainee.begin(rate=400)
    page = await tabs.open(f"/training/runs/{run}", token=trainee.token)
    await newest(page, 6000)
    await page.get_by_role("button", name="Follow").click()
    still = await lines_of(page)
    await expect(page.get_by_text(re.compile(r"[\d,]+ new lines below"))).to_be_visible()
    assert await lines_of(page) == still
    await page.get_by_role("searchbox", name="Search the log").fill("line 17 ")
    await page.keyboard.press("Enter")
    await expect(page.locator(".ln-hit")).to_contain_text("line 17 of many")
    around = await lines_of(page)
    assert without_gaps(around)
    await page.get_by_role("button", name="Follow").click()
    await newest(page, max(still) + 100)
    assert without_gaps(await lines_of(page))
    assert await page.locator("[data-log] b").count() == 0
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Download log").click()
    path = await (await download.value).path()
    assert path.read_text().startswith("line 1 ") or "\nline 1 " in path.read_text()


@pytest.mark.timeout(600)
async def test_earlier_lines_come_when_one_scrolls_up(tabs: Tabs, trainee: Trainee) -> None:
    run = trainee.begin(rate=2000)
    page = await tabs.open(f"/training/runs/{run}", token=trainee.token)
    await newest(page, 9000)
    await page.get_by_role("button", name="Follow").click()
    first = (await lines_of(page))[0]
    assert first > 1  # the page holds the newest ones alone
    box = page.get_by_role("region", name="Lines of the log")
    await box.focus()
    await page.keyboard.press("Home")
    await page.wait_for_function(f"(first) => ({SHOWN})()[0] < first", arg=first)
    assert without_gaps(await lines_of(page))


@pytest.mark.timeout(600)
async def test_what_a_terminal_would_show_is_shown_as_text(tabs: Tabs, trainee: Trainee) -> None:
    run = trainee.begin()
    page = await tabs.open(f"/training/runs/{run}", token=trainee.token)
    read = "(line) => TesraAnsi.read(line).runs.map((run) => run.text).join('')"
    for line, shown in [
        ("\r 10%|#\r 55%|#####\r100%|##########\r", "100%|##########"),
        ("abcdef\rXY", "XYcdef"),
        ("long words\rnew\x1b[K", "new"),
        ("ab\b\bcd", "cd"),
        ("\x1b[1;31mred\x1b[0m \x1b]0;title\x07plain", "red plain"),
        ("\x1b[38;5;196mdeep\x1b[38;2;1;2;3mtrue\x1b[m", "deeptrue"),
        ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
    ]:
        assert await page.evaluate(read, line) == shown


@pytest.mark.timeout(600)
async def test_two_thousand_lines_a_second_leave_the_tab_alive(
    tabs: Tabs, trainee: Trainee
) -> None:
    """What its thread does is counted in processor time too: frames wait on a busy machine."""
    run = trainee.begin(rate=2000)
    page = await tabs.open(f"/training/runs/{run}", token=trainee.token)
    await newest(page, 2000)
    session = await page.context.new_cdp_session(page)
    await session.send("Performance.enable", {"timeDomain": "threadTicks"})
    before, first = await _work_s(session), max(await lines_of(page))
    gaps: list[float] = await page.evaluate(GAPS)
    worked, lines = await _work_s(session) - before, max(await lines_of(page)) - first
    prompt = sum(gap < 200 for gap in gaps) / len(gaps)
    told = (
        f"{lines} lines, {worked:.2f} s of work in 8 s, {prompt:.1%} of {len(gaps)} frames in time"
    )
    assert worked < 4, told
    assert lines > 2000, told
    assert prompt > 0.95, told
    assert await page.locator("[data-log] .ln").count() < 20_000
    assert without_gaps(await lines_of(page))


async def _work_s(session: CDPSession) -> float:
    told = await session.send("Performance.getMetrics")
    return float(next(one["value"] for one in told["metrics"] if one["name"] == "TaskDuration"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", {"tune": "Tuning", "apply": "Apply changes", "made": "made", "stop": "Stop", "yes": "Yes, do it", "stopped": "Stopped", "files": "Files and checkpoints", "charts": "Charts"}),
        ("zh-CN", {"tune": "在线调参", "apply": "应用改动", "made": "已生效", "stop": "停止", "yes": "确定", "stopped": "已停止", "files": "文件与断点", "charts": "图表"}),
    ],
)  # fmt: skip
async def test_run_is_tuned_and_stopped_on_its_page(
    tabs: Tabs, trainee: Trainee, language: str, words: dict[str, str]
) -> None:
    run = trainee.begin()
    page = await tabs.open(f"/training/runs/{run}", token=trainee.token, language=language)
    await newest(page, 50)
    await page.get_by_role("link", name=words["charts"], exact=True).click()
    await expect(page.get_by_role("img", name=re.compile(r"^loss\. .*"))).to_be_visible()
    assert await serious_faults(page) == []
    await page.get_by_role("link", name=words["tune"], exact=True).click()
    assert page.url.endswith("#tune")
    await page.get_by_role("textbox", name="lr").fill("2")
    await page.get_by_role("button", name=words["apply"]).click()
    await expect(page.get_by_role("alert").filter(has_text="lr")).to_be_visible()
    await page.get_by_role("textbox", name="lr").fill("0.25")
    await page.get_by_role("button", name=words["apply"]).click()
    row = page.get_by_role("row").filter(has_text="0.1 → 0.25")
    await expect(row).to_contain_text(words["made"], timeout=60_000)
    await expect(page.get_by_role("textbox", name="lr")).to_have_value("0.25")
    assert await serious_faults(page) == []
    await page.get_by_role("button", name=words["stop"], exact=True).click()
    await page.get_by_role("button", name=words["yes"]).click()
    await expect(page.locator(".run-steps [aria-current=step]")).to_contain_text(
        words["stopped"], timeout=120_000
    )
    assert await serious_faults(page) == []
    tabs.allow("422")


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", {"tune": "Tuning", "apply": "Apply changes", "made": "made", "back": "Roll back", "yes": "Yes, do it", "ask": "Go back to checkpoint {}, the last one before this change", "begins": "The run begins again from the checkpoint before that change.", "undone": "rolled back", "to": "Rolled back to checkpoint {}.", "files": "Files and checkpoints", "attempt": "attempt 2", "log": "Log"}),
        ("zh-CN", {"tune": "在线调参", "apply": "应用改动", "made": "已生效", "back": "回滚", "yes": "确定", "ask": "回到断点 {}（这次改动之前的最后一个断点）", "begins": "训练将从该改动之前的断点重新开始。", "undone": "已回滚", "to": "断点 {}", "files": "文件与断点", "attempt": "第 2 次尝试", "log": "日志"}),
    ],
)  # fmt: skip
async def test_a_change_is_rolled_back_to_the_checkpoint_before_it(
    tabs: Tabs, trainee: Trainee, language: str, words: dict[str, str]
) -> None:
    run = trainee.begin(checkpoint_every_s=1, save=True)
    page = await tabs.open(f"/training/runs/{run}#files", token=trainee.token, language=language)
    parts = page.get_by_role("main").get_by_role("navigation").first
    stored = page.get_by_role("row").filter(has_text=re.compile(r"step-\d+\.json"))
    await expect(stored).to_have_count(2, timeout=120_000)  # they come by themselves
    number = await stored.first.get_by_role("cell").first.inner_text()
    assert await serious_faults(page) == []
    await parts.get_by_role("link", name=words["tune"]).click()
    await page.get_by_role("textbox", name="lr").fill("0.25")
    await page.get_by_role("button", name=words["apply"]).click()
    row = page.get_by_role("row").filter(has_text="0.1 → 0.25")
    await expect(row).to_contain_text(words["made"], timeout=60_000)
    await row.get_by_role("button", name=words["back"]).click()
    dialog = page.get_by_role("dialog")
    asked = re.search(words["ask"].format(r"(\d+)"), await dialog.inner_text())
    assert asked
    assert int(asked[1]) >= int(number)
    await page.get_by_role("button", name=words["yes"]).click()
    await expect(page.get_by_text(words["begins"])).to_be_visible()
    await expect(row).to_contain_text(words["undone"], timeout=60_000)
    to = re.search(words["to"].format(r"(\d+)"), await row.inner_text())
    assert to
    assert int(to[1]) >= int(
        asked[1]
    )  # one made before the change may be stored after the question
    await expect(page.get_by_role("textbox", name="lr")).to_have_value("0.1")
    await expect(page.get_by_text(words["attempt"], exact=True)).to_be_visible(timeout=120_000)
    assert await serious_faults(page) == []
    await parts.get_by_role("link", name=words["log"]).click()
    on = page.get_by_text(re.compile(r"^goes on from step [1-9]\d* with 0\.1$"))
    await expect(on).to_be_visible(timeout=120_000)
    await parts.get_by_role("link", name=words["files"]).click()
    again = stored.filter(has=page.get_by_role("cell", name="2", exact=True))
    await expect(again).not_to_have_count(0, timeout=60_000)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_charts_of_metrics_and_of_devices_are_painted(
    tabs: Tabs, trainee: Trainee, scheme: str
) -> None:
    run = trainee.begin()
    page = await tabs.open(f"/training/runs/{run}#charts", token=trainee.token, color_scheme=scheme)
    first = "74,134,232"  # the colour of the first line
    for name in ("loss", "Use of devices", "Memory of devices"):
        chart = page.get_by_role("img", name=re.compile(rf"^{name}\. .*\((?!0\b|1\b)\d+\)$"))
        await expect(chart).to_be_visible(timeout=120_000)  # it has points enough for a line
        await chart.scroll_into_view_if_needed()
        painted = await chart.locator("canvas").evaluate(PAINTED)
        assert painted.get(first, 0) > 50, name
    assert await serious_faults(page) == []


@pytest.mark.timeout(600)
async def test_the_model_is_downloaded_and_two_runs_are_compared(
    tabs: Tabs, trainee: Trainee
) -> None:
    one = trainee.begin()
    trainee.end(one)
    page = await tabs.open(f"/training/runs/{one}", token=trainee.token)
    async with page.expect_download(timeout=120_000) as download:
        await page.get_by_role("link", name="Download model").first.click(timeout=120_000)
    assert (await download.value).suggested_filename.endswith(".zip")
    await page.get_by_role("link", name="Files and checkpoints").click()
    async with page.expect_download() as download:
        await page.get_by_role("link", name="model.txt").click()
    assert (await (await download.value).path()).read_text() == "weights"
    assert await serious_faults(page) == []
    pay = page.get_by_role("button", name="Pay from vouchers and wallet")
    if await pay.count():
        await pay.click()
        await expect(page.get_by_text("The bill is paid.")).to_be_visible()
    other = trainee.begin(rate=60)
    trainee.end(other)
    await asyncio.to_thread(trainee.wait, other)
    await page.goto(f"/training/compare?run={one}&run={other}")
    await expect(page.get_by_role("row").filter(has_text="rate")).to_have_class("differs")
    await page.get_by_role("heading", name="loss").scroll_into_view_if_needed()  # then it is drawn
    await expect(page.get_by_role("img", name=re.compile(r"^loss\. "))).to_be_visible(
        timeout=60_000
    )
    assert await serious_faults(page) == []
