"""Routers of pages: HTML, answered to GET and HEAD alike, and no part of the API's reference."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse


class PageRouter(APIRouter):
    """``get`` adds HEAD, ``post`` takes forms; neither shows up in OpenAPI."""

    def get(self, path: str, **options: Any) -> Callable[[Any], Any]:
        return self._page(path, ["GET", "HEAD"], options)

    def post(self, path: str, **options: Any) -> Callable[[Any], Any]:
        return self._page(path, ["POST"], options)

    def _page(self, path: str, methods: list[str], options: dict[str, Any]) -> Callable[[Any], Any]:
        options = {"response_class": HTMLResponse, "response_model": None, **options}
        return self.api_route(path, methods=methods, include_in_schema=False, **options)
