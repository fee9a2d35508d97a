"""The pages without a browser: a client that keeps cookies and posts forms as a browser does."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from typing import Any

import httpx
from fastapi import FastAPI

from factories.identity import PASSWORD, unique_name
from tesra.web.api import create_api
from tesra.web.context import Services

ADDRESS = "http://pages.test"
_CSRF = re.compile(r'<meta name="csrf" content="([0-9a-f]+)">')


class PageClient(httpx.AsyncClient):
    """``look`` gets a page, ``submit`` posts a form with the proof of the page that was seen last."""

    csrf = ""
    name = ""

    async def look(self, path: str, **headers: str) -> httpx.Response:
        answer = await self.get(path, headers={"Accept": "text/html", **headers})
        self._remember(answer)
        return answer

    async def submit(
        self, path: str, fields: dict[str, Any] | None = None, /, **more: Any
    ) -> httpx.Response:
        """The answer itself: redirects are not followed."""
        if not self.csrf:
            await self.look("/")
        form = {"csrf": self.csrf, **(fields or {}), **more}
        headers = {"Accept": "text/html", "Referer": f"{ADDRESS}/"}
        answer = await self.post(path, data=form, headers=headers, follow_redirects=False)
        self._remember(answer)
        return answer

    async def register(self, stem: str = "ann") -> None:
        """Somebody new, signed in."""
        self.name = unique_name(stem)
        answer = await self.submit("/register", name=self.name, password=PASSWORD)
        assert answer.status_code == 303, answer.text
        await self.look("/")

    def _remember(self, answer: httpx.Response) -> None:
        found = (
            _CSRF.search(answer.text) if "html" in answer.headers.get("content-type", "") else None
        )
        if found:
            self.csrf = found[1]
        elif answer.is_redirect:  # the session may be another one now
            self.csrf = ""


@asynccontextmanager
async def pages_over(
    services: Services, *, language: str = "en", app: FastAPI | None = None
) -> AsyncIterator[PageClient]:
    """A browser's session with the pages over these services."""
    transport = httpx.ASGITransport(app or create_api(services), raise_app_exceptions=False)
    headers = {"Accept-Language": language}
    async with PageClient(transport=transport, base_url=ADDRESS, headers=headers) as client:
        yield client


def words_of(answer: httpx.Response) -> str:
    """What a reader sees of a page: its text, without tags."""
    body = re.sub(r"(?s)<(script|style|template)\b.*?</\1>", " ", answer.text)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())
