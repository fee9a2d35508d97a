"""The peer's side of the peer protocol: enrolment, orders, facts. It dials out only."""

from types import TracebackType
from typing import Self

import httpx

from tesra.kit.errors import TesraError, Unavailable
from tesra.sdk.transfer import refusal
from tesra.wire.common import Wire
from tesra.wire.peer import Fact, PeerEnrolled, PeerEnrolment, PeerFacts, PeerOrders

LONG_POLL_S = 15.0
_TIMEOUT_S = 20.0


class ServerAway(Unavailable):
    """The server does not answer now."""


class EnrolAgain(TesraError):
    """The server does not know this peer."""


class PeerLink:
    """One HTTP connection pool to one server."""

    def __init__(self, server_url: str, token: str) -> None:
        self._client = httpx.AsyncClient(
            base_url=server_url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=_TIMEOUT_S,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def enrol(self, request: PeerEnrolment) -> PeerEnrolled:
        answer = await self._send("POST", "/peer/v1/enrol", body=request)
        return PeerEnrolled.model_validate_json(answer.content)

    async def orders(self, peer: str, after: str) -> PeerOrders:
        """Answers when the orders differ from version ``after``, or after a while."""
        answer = await self._send(
            "GET",
            f"/peer/v1/peers/{peer}/orders",
            query={"after": after, "wait_s": LONG_POLL_S},
            timeout_s=LONG_POLL_S + _TIMEOUT_S,
        )
        return PeerOrders.model_validate_json(answer.content)

    async def tell(self, peer: str, facts: list[Fact]) -> None:
        await self._send("POST", f"/peer/v1/peers/{peer}/facts", body=PeerFacts(facts=facts))

    async def _send(
        self,
        method: str,
        path: str,
        *,
        body: Wire | None = None,
        query: dict[str, str | float] | None = None,
        timeout_s: float = _TIMEOUT_S,
    ) -> httpx.Response:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        content = body.model_dump_json().encode() if body is not None else None
        try:
            answer = await self._client.request(
                method, path, content=content, params=query, headers=headers, timeout=timeout_s
            )
        except httpx.TransportError as error:
            raise ServerAway(f"The server does not answer: {error!r}.") from error
        if answer.status_code >= 500 or answer.status_code == 429:
            raise ServerAway(f"The server answered {answer.status_code}.")
        if not answer.is_success:
            refused = refusal(answer)
            if refused.fields.get("code") == "peer_unknown":
                raise EnrolAgain(refused.detail)
            raise refused
        return answer
