"""Real Chromium on a real network: pages as people use them, in both languages.

A test fails when its page said anything on the console, broke the content security policy, or
asked another host. Screenshots of all pages are kept in ``.artefacts/screens``.
"""

import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from factories.browsing import Tabs
from factories.command_line import CommandLine

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None
)
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE_MS = 20_000  # a deadline, not a wait: the machine may have much else to do
SCREENS = Path(__file__).resolve().parent.parent.parent / ".artefacts" / "screens"


expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def network() -> Iterator[CommandLine]:
    """A network of two devices, with its command line."""
    folder = Path(tempfile.mkdtemp(prefix="tesra-web-"))
    commands = CommandLine(folder, TESRA_REGISTRATIONS_PER_HOUR="10000")
    try:
        commands.done("up", "--port", "0", "--devices", "2", "--detach")
        yield commands
    finally:
        commands.run("down")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def site(network: CommandLine) -> str:
    """The address that ``tesra up`` prints."""
    address: str = network.ask("status")["url"]
    return address


@pytest.fixture(scope="session")
def operator_token(network: CommandLine) -> str:
    token: str = network.ask("up", "--detach")["operator_token"]
    return token


@pytest_asyncio.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    assert CHROMIUM, "Chromium is missing: make setup-system"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=list(ARGUMENTS), env={**os.environ}
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture
async def tabs(chromium: Browser, site: str, request: pytest.FixtureRequest) -> AsyncIterator[Tabs]:
    """Opens pages; what they said on the console fails the test."""
    name = re.sub(r"\W+", "-", request.node.name)
    tabs = Tabs(chromium, site, SCREENS / f"{name}.png")
    yield tabs
    complaints = await tabs.close()
    assert complaints == []
