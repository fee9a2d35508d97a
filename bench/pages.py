"""The home page as a newcomer's browser gets it: bytes over the wire, time to the first paint.

Each load is cold: a new browser context with nothing kept. Bytes are what Chromium counts for all
answers of the load, compressed as they come, headers too; the paint is PerformancePaintTiming's.
"""

import asyncio
import shutil
from statistics import median
from typing import Any

from bench._harness import BenchFailed, report, run_bench
from bench.dispatch import server
from playwright.async_api import Browser, async_playwright

BYTES = "home_cold_kb"
BYTES_TARGET_KB = 200.0
PAINT = "home_first_paint_s"
PAINT_TARGET_S = 0.5
LOADS = 9
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def measure() -> None:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise BenchFailed("Chromium is missing: make setup-system")
    with server() as running:
        loads = asyncio.run(load_all(program, running.url))
    sizes = [size for size, _ in loads]
    paints = [paint for _, paint in loads]
    report(
        BYTES,
        round(median(sizes) / 1000, 1),
        target=BYTES_TARGET_KB,
        versus={"loads": LOADS, "most": round(max(sizes) / 1000, 1)},
    )
    report(
        PAINT,
        round(median(paints), 3),
        target=PAINT_TARGET_S,
        versus={"loads": LOADS, "fastest": round(min(paints), 3), "slowest": round(max(paints), 3)},
    )


async def load_all(program: str, url: str) -> list[tuple[int, float]]:
    """Bytes and seconds of each load."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        await load(browser, url)  # the browser's own first page is not the site's
        loads = [await load(browser, url) for _ in range(LOADS)]
        await browser.close()
    return loads


async def load(browser: Browser, url: str) -> tuple[int, float]:
    context = await browser.new_context(locale="zh-CN")
    page = await context.new_page()
    session = await context.new_cdp_session(page)
    received = 0

    def count(event: dict[str, Any]) -> None:
        nonlocal received
        received += int(event["encodedDataLength"])

    session.on("Network.loadingFinished", count)
    await session.send("Network.enable")
    await page.goto(url, wait_until="networkidle")
    paint_ms: float = await page.evaluate(
        "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    )
    await context.close()
    return received, paint_ms / 1000


if __name__ == "__main__":
    run_bench(measure, PAINT, PAINT_TARGET_S)
