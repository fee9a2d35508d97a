"""A sweep from its form to its charts, on a network that runs."""

import re
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from factories.browsing import Tabs, serious_faults
from tesra.sdk.client import Client

pytestmark = [pytest.mark.e2e, pytest.mark.browser]

TRIALS = 5
ENDED_MS = 300_000
SCRIPT = """
import tesra
for step in range(1, 4):
    tesra.log({"loss": (tesra.params.lr - 0.3) ** 2 + tesra.params.layers / 100 + 1 / step}, step=step)
"""
LINES = "() => document.querySelectorAll('#parallel path').length"


@pytest.mark.timeout(600)
async def test_a_sweep_is_begun_watched_and_its_trials_are_picked(
    tabs: Tabs, site: str, tmp_path: Path
) -> None:
    _, token = tabs.person()
    (tmp_path / "train.py").write_text(SCRIPT)
    with Client(site, token) as client:
        client.import_project(str(tmp_path), name="sweeping")
    page = await tabs.open("/training/sweeps", token=token)
    assert await serious_faults(page) == []
    await page.get_by_role("link", name="New sweep").first.click()
    await page.get_by_label("Entry").fill("train.py")
    await page.get_by_label("AI engine").select_option("pytorch")
    await page.get_by_label("Parameters, a line each").fill(
        "lr = uniform(0, 1)\nlayers = choice(2, 4)"
    )
    await page.get_by_label("Metric that decides").fill("loss")
    await page.get_by_label("Trials", exact=True).fill(str(TRIALS))
    await page.get_by_label("Trials at a time").fill("2")
    assert await serious_faults(page) == []
    await page.get_by_role("button", name="Start the sweep").click()
    await expect(page.get_by_role("heading", name="Parallel coordinates")).to_be_visible()
    await expect(page.get_by_text(f"{TRIALS} / {TRIALS}")).to_be_visible(timeout=ENDED_MS)
    best = page.get_by_role("link", name="Best trial")
    await expect(best).to_be_visible(timeout=ENDED_MS)  # it is over
    await page.wait_for_function(f"({LINES})() === {TRIALS}")
    history = page.locator("#history [data-plot]")
    await expect(history).to_have_attribute(
        "aria-label", re.compile(r"^Value of each trial, and the best so far\. ")
    )
    await expect(history.locator("canvas")).to_be_visible()
    rows = page.locator("tr[data-trial]")
    await expect(rows).to_have_count(TRIALS)
    assert await serious_faults(page) == []
    await _keep_the_lower_half(page)
    hidden = await page.locator("tr[data-trial][hidden]").count()
    assert 0 < hidden < TRIALS
    await expect(best).to_have_attribute("href", re.compile("^/training/runs/run_"))


async def _keep_the_lower_half(page: Page) -> None:
    """Drags along the axis of the metric, the last one."""
    grip = page.locator("#parallel .grip").last
    await grip.scroll_into_view_if_needed()
    box = await grip.bounding_box()
    assert box is not None
    across, low, middle = (
        box["x"] + box["width"] / 2,
        box["y"] + box["height"] - 6,
        box["y"] + box["height"] / 2,
    )
    await page.mouse.move(across, low)
    await page.mouse.down()
    await page.mouse.move(across, middle, steps=5)
    await page.mouse.up()
