"""Requests and their answers: wire models go out and come in, problems become errors.

A request that may safely be repeated (a read, or one with an idempotency key) is sent again after
a lost connection; any other only when it certainly never left.
"""

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import httpx
from pydantic import BaseModel

from tesra.sdk.bulk import bulk_transport
from tesra.sdk.credentials import Access
from tesra.sdk.errors import not_understood, refusal, unreachable
from tesra.sdk.follow import Silence
from tesra.wire.common import Page

Model = TypeVar("Model", bound=BaseModel)
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

PREFIX = "/api/v1"
_JSON = {"Content-Type": "application/json"}
PAUSES_S = (0.1, 0.3, 0.6)  # a second in all: long enough for a hiccup, short when nobody is there
PAGE_LIMIT = 200
STREAM_SILENCE_S = 60.0  # a stream that is silent for longer is opened again
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Connection:
    """One address with one token."""

    def __init__(
        self,
        access: Access,
        *,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.access = access
        trust_env = not _is_loopback(access.url)  # a proxy can't reach this machine's loopback
        self.http = httpx.Client(
            base_url=access.url,
            headers=_authorization(access.token),
            timeout=httpx.Timeout(timeout_s, connect=10.0),
            transport=transport or bulk_transport(access.url, trust_env=trust_env),
            trust_env=trust_env,
        )

    def close(self) -> None:
        self.http.close()

    def sign(self, token: str | None) -> None:
        """Use another token from now on."""
        self.access = Access(self.access.url, token)
        self.http.headers.pop("Authorization", None)
        self.http.headers.update(_authorization(token))

    def get(self, path: str, model: type[Model], query: Mapping[str, Any] | None = None) -> Model:
        return self._understand(model, self._send("GET", path, query=query))

    def read(self, path: str, query: Mapping[str, Any], headers: Mapping[str, str]) -> bytes:
        """The bytes that an address answers with, whole in memory."""
        sent = {"Accept-Encoding": "identity", **headers}
        return self._send("GET", path, query=query, headers=sent).content

    def write(
        self, path: str, model: type[Model], query: Mapping[str, Any], content: bytes
    ) -> Model:
        """Put these bytes; sent again when the connection breaks."""
        return self._understand(model, self._send("PUT", path, query=query, content=content))

    def send(
        self,
        method: Method,
        path: str,
        body: BaseModel | None = None,
        *,
        once: bool = False,
    ) -> httpx.Response:
        """Send; ``once`` gives the request a key under which the server does it a single time."""
        headers = {"Idempotency-Key": secrets.token_urlsafe(24)} if once else {}
        return self._send(method, path, body=body, headers=headers)

    def post(
        self, path: str, model: type[Model], body: BaseModel | None = None, *, once: bool = False
    ) -> Model:
        return self._understand(model, self.send("POST", path, body, once=once))

    def put(self, path: str, model: type[Model], body: BaseModel) -> Model:
        return self._understand(model, self.send("PUT", path, body))

    def patch(self, path: str, model: type[Model], body: BaseModel) -> Model:
        """Change the fields that were set in the body, to values: repeating it changes nothing."""
        content = body.model_dump_json(exclude_unset=True).encode()
        return self._understand(model, self._send("PATCH", path, content=content, headers=_JSON))

    def pages(
        self,
        path: str,
        model: type[Model],
        *,
        query: Mapping[str, Any] | None = None,
        limit: int | None = None,
    ) -> Iterator[Model]:
        """The items of a list, page after page, up to ``limit``."""
        left, cursor = limit, None
        while left is None or left > 0:
            size = PAGE_LIMIT if left is None else min(left, PAGE_LIMIT)
            asked = {**(query or {}), "limit": size, "cursor": cursor}
            page = self.get(path, Page[model], asked)  # type: ignore[valid-type]  # a type at run time
            yield from page.items[:size]
            left = None if left is None else left - len(page.items)
            cursor = page.next
            if cursor is None:
                return

    @contextmanager
    def stream(self, path: str, query: Mapping[str, Any]) -> Iterator[Iterator[bytes]]:
        """The answer's bytes as they come; a break raises ``Unreachable``, a long quiet ``Silence``."""
        timeout = httpx.Timeout(STREAM_SILENCE_S, connect=10.0)
        headers = {"Accept-Encoding": "identity"}
        try:
            with self.http.stream(
                "GET", PREFIX + path, params=_given(query), headers=headers, timeout=timeout
            ) as response:
                if response.is_error:
                    raise refusal(response.status_code, response.read())
                yield response.iter_bytes()
        except httpx.ReadTimeout as error:
            raise Silence from error
        except httpx.TransportError as error:
            raise unreachable(self.access.url, error) from error

    def _send(
        self,
        method: Method,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: BaseModel | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        request = self.http.build_request(
            method,
            PREFIX + path,
            params=_given(query or {}),
            content=body.model_dump_json().encode() if body is not None else content,
            headers={**(headers or {}), **(_JSON if body else {})},
        )
        repeatable = method != "POST" or "Idempotency-Key" in request.headers
        for pause_s in (*PAUSES_S, None):
            try:
                response = self.http.send(request)
            except httpx.TransportError as error:
                if pause_s is None or not (repeatable or isinstance(error, _NEVER_SENT)):
                    raise unreachable(self.access.url, error) from error
                time.sleep(pause_s)
            else:
                if response.is_error:
                    raise refusal(response.status_code, response.content)
                return response
        raise AssertionError("the last try returns or raises")  # pragma: no cover

    def _understand(self, model: type[Model], response: httpx.Response) -> Model:
        try:
            return model.model_validate_json(response.content)
        except ValueError as error:
            raise not_understood(self.access.url) from error


def _given(query: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def _authorization(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _is_loopback(url: str) -> bool:
    host = httpx.URL(url).host
    return host in {"localhost", "::1"} or host.startswith("127.")
