"""The server as a site sees it: plain HTTPS requests that the site alone begins.

Every call either answers or raises: ``ServerAway`` (try again later), ``StaleFence`` (the attempt
is no longer this site's), ``UnknownSite`` (enrol again), or the kind that the server refused with.
"""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import httpx

from tesra.kit.errors import Conflict, NotFound, TesraError, TooMany, Unavailable
from tesra.sdk.bulk import bulk_transport
from tesra.sdk.transfer import HttpDoor, refusal
from tesra.wire.common import Answer, Wire
from tesra.wire.site import (
    Acknowledged,
    Assignments,
    Delivery,
    DeliveryTaken,
    Enrolled,
    Enrolment,
    Messages,
    NodeEngines,
    Piece,
    PieceTaken,
    Renewal,
    Renewed,
)

if find_spec("sniffio") is None:
    # httpcore tries to import it several times in every request: let it fail without a search
    sys.modules["sniffio"] = None  # type: ignore[assignment]

AnswerModel = TypeVar("AnswerModel", bound=Answer)

_TIMEOUT_S = 20.0
_FEW = httpx.Limits(max_connections=8, max_keepalive_connections=8)  # each request looks at all
_UNKNOWN = frozenset({"unknown_boot", "unknown_site", "site_unknown", "boot_unknown"})


class ServerAway(Unavailable):
    """The server does not answer right now."""


class StaleFence(Conflict):
    """The attempt is no longer this site's."""


class UnknownSite(NotFound):
    """The server does not know this site, or this start of it."""


class SiteClient:
    """One per process; ``token`` is the site's own credential and is sent to ``url`` only."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._base = httpx.URL(url)
        self._prefix = self._base.raw_path.rstrip(b"/")
        # without a client around it, whose cookies, redirects and proxies are not for these requests
        self._transport = httpx.AsyncHTTPTransport(limits=_FEW, trust_env=False)
        self._sync: httpx.Client | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._transport.aclose()
        if self._sync is not None:
            self._sync.close()

    async def enrol(self, enrolment: Enrolment) -> Enrolled:
        return await self._post("/site/v1/enrol", enrolment, Enrolled)

    async def send(self, messages: Messages) -> Acknowledged:
        return await self._post("/site/v1/messages", messages, Acknowledged)

    async def renew(self, renewal: Renewal) -> Renewed:
        return await self._post("/site/v1/renew", renewal, Renewed)

    async def tell_engines(self, node: str, engines: NodeEngines) -> None:
        """What is warm on a node now."""
        await self._request(
            "PUT",
            f"/site/v1/nodes/{quote(node)}/engines",
            content=engines.model_dump_json().encode(),
            content_type="application/json",
        )

    async def assignments(self, after: int, wait_s: float) -> Assignments:
        """Long poll: answers at once when the version differs from ``after``."""
        answer = await self._request(
            "GET",
            f"/site/v1/assignments?after={after}&wait_s={wait_s:g}",
            timeout=wait_s + _TIMEOUT_S,
        )
        return Assignments.model_validate_json(answer.content)

    async def deliver(self, pieces: Sequence[tuple[Piece, bytes]]) -> list[PieceTaken]:
        """Offer bytes of logs and metrics; how far the server holds each afterwards is the truth."""
        answer = await self._request(
            "POST",
            "/site/v1/deliveries",
            content=delivery_of(pieces),
            content_type="application/octet-stream",
        )
        return DeliveryTaken.model_validate_json(answer.content).pieces

    def drive(self, attempt: str, fence: int) -> HttpDoor:
        """The drive as far as this attempt may see it; for use in threads."""
        if self._sync is None:
            self._sync = httpx.Client(
                base_url=self._url,
                headers=self._headers,
                timeout=60.0,
                transport=bulk_transport(self._url, trust_env=False),
                trust_env=False,
            )
        prefix = f"/site/v1/attempts/{quote(attempt)}/drive"
        return HttpDoor(self._sync, prefix, {"Tesra-Fence": str(fence)})

    async def _post(self, path: str, body: Wire, answer: type[AnswerModel]) -> AnswerModel:
        response = await self._request(
            "POST", path, content=body.model_dump_json().encode(), content_type="application/json"
        )
        return answer.model_validate_json(response.content)

    async def _request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        content_type: str | None = None,
        timeout: float = _TIMEOUT_S,  # noqa: ASYNC109 - handed on to httpx, per phase of a request
    ) -> httpx.Response:
        headers = self._headers | ({"Content-Type": content_type} if content_type else {})
        request = httpx.Request(
            method,
            self._base.copy_with(raw_path=self._prefix + path.encode("ascii")),
            headers=headers,
            content=content,
            extensions={"timeout": httpx.Timeout(timeout).as_dict()},
        )
        try:
            response = await self._transport.handle_async_request(request)
            await response.aread()
        except httpx.TransportError as error:
            raise ServerAway(f"The server does not answer: {error!r}.") from error
        if response.status_code >= 500:
            raise ServerAway(f"The server answered {response.status_code}.")
        if not response.is_success:
            raise meaning(refusal(response))
        return response


def delivery_of(pieces: Sequence[tuple[Piece, bytes]]) -> bytes:
    """The body of a delivery."""
    listed = Delivery.model_construct(pieces=[piece for piece, _ in pieces])
    return b"".join((listed.model_dump_json().encode(), b"\n", *(data for _, data in pieces)))


def meaning(error: TesraError) -> TesraError:
    """The refusal in the site protocol's own terms, where it has one."""
    code = error.fields.get("code", error.code)
    if code == "stale_fence":
        return StaleFence(error.detail)
    if code in _UNKNOWN:
        return UnknownSite(error.detail)
    if isinstance(error, TooMany):
        return ServerAway(error.detail)
    return error
