"""Chromium's tabs as tests use them: somebody signed in, complaints collected, axe at hand."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
from playwright.async_api import Browser, BrowserContext, Page, Request

AXE = Path(__file__).resolve().parent.parent.parent / "build" / "npm" / "axe.js"
PASSWORD = "correct horse battery"
DEADLINE_MS = 30_000  # the machine may be busy: waiting longer costs nothing when all is well


@dataclass
class Tabs:
    """Pages of one test. Every context has its own cookies, as another person's browser has."""

    browser: Browser
    site: str
    screen: Path
    complaints: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    async def open(
        self, path: str = "/", *, language: str = "en", token: str | None = None, **options: Any
    ) -> Page:
        """A page in a browser of its own; with ``token``, whoever it belongs to is signed in."""
        context = await self.browser.new_context(
            locale=language, base_url=self.site, viewport={"width": 1280, "height": 900}, **options
        )
        self.contexts.append(context)
        context.set_default_timeout(DEADLINE_MS)
        if token:
            await context.add_cookies(
                [{"name": "tesra_session", "value": token, "url": self.site, "httpOnly": True}]
            )
        page = await context.new_page()
        self._listen(page)
        context.on("page", self._listen)
        await page.goto(path)
        return page

    def person(self) -> tuple[str, str]:
        """Somebody new: name and session token."""
        name = f"安-{uuid4().hex[:8]}"
        body = {"name": name, "password": PASSWORD}
        answer = httpx.post(f"{self.site}/api/v1/register", json=body, timeout=30)
        assert answer.status_code == 201, answer.text
        return name, answer.json()["token"]

    def allow(self, *parts: str) -> None:
        """Complaints that hold one of these are what the test is about (a refused request, say)."""
        self.complaints = [c for c in self.complaints if not any(part in c for part in parts)]

    async def close(self) -> list[str]:
        """What pages complained of; the last page is kept as a screenshot."""
        self.screen.parent.mkdir(parents=True, exist_ok=True)
        for context in self.contexts:
            for page in context.pages[-1:]:
                await page.screenshot(path=self.screen, full_page=True)
            await context.close()
        return self.complaints

    def _listen(self, page: Page) -> None:
        page.on("console", lambda said: said.type == "error" and self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._check_host)

    def _check_host(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme in {"http", "https"} and address.netloc != urlsplit(self.site).netloc:
            self.complaints.append(f"asked another host: {request.url}")


async def serious_faults(page: Page) -> list[str]:
    """What axe-core finds serious or critical on the page."""
    await page.evaluate(AXE.read_text(encoding="utf-8"))
    found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{fault['id']}: {json.dumps([node['target'] for node in fault['nodes']])}"
        for fault in found["violations"]
        if fault["impact"] in {"serious", "critical"}
    ]
