"""MLflow's tracking server for one attempt, on this node's loopback: no outage reaches a script.

Each rank has a secret path of its own, so that its metrics are its own and no other run of this
machine can read or write them. Requests are few and small; bodies, connections and waiting are
limited. What a script sends can end its own connection, nothing else.
"""

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import h11

from tesra.node.metrics.points import Fact
from tesra.node.metrics.tracking import MAX_WAITING, Tracking
from tesra.node.metrics.tracking_state import Fields, TrackingError

VARIABLE = "MLFLOW_TRACKING_URI"
NO_LINKS = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"  # to pages that are not there
MAX_BODY_BYTES = 8 * 2**20
_MAX_CONNECTIONS = 256
_IDLE_S = 300.0
_READ_BYTES = 65536

_log = logging.getLogger(__name__)


class TrackingServer:
    """Call ``open`` before the gang starts and ``close`` when it is gone; a source of facts between."""

    def __init__(self, artifacts: Path) -> None:
        self._tracking = Tracking(artifacts)
        self._secret = secrets.token_urlsafe(24)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._connections: set[asyncio.Task[None]] = set()
        self.left = False

    async def open(self) -> None:
        """Listen; raises ``OSError``."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]

    def variables(self, rank: int) -> dict[str, str]:
        """What a rank is told; its user's own variables may say otherwise."""
        if self._server is None:
            return {}
        address = f"http://127.0.0.1:{self._port}/{self._secret}/{rank}"
        return {VARIABLE: address, NO_LINKS: "1"}

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    # As a source of the collector

    def read(self, now: float, last: bool) -> Iterator[Fact]:
        del now, last
        facts = self._tracking.facts
        for _ in range(min(len(facts), MAX_WAITING)):
            yield facts.popleft()

    def position(self) -> Any:
        return {}

    def go_on(self, position: Any) -> None:
        del position  # what a script had not been told of is gone with it

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if len(self._connections) <= _MAX_CONNECTIONS:
                await self._converse(reader, writer)
        except (h11.RemoteProtocolError, OSError, TimeoutError, asyncio.CancelledError):
            pass  # the script's own affair
        except Exception:  # noqa: BLE001 - a worker's outer loop: logged, and the connection ends
            _log.exception("MLflow's endpoint")
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Request after request on one connection."""
        state = h11.Connection(h11.SERVER)
        while True:
            request = await _next(state, reader, writer)
            if not isinstance(request, h11.Request):
                return
            body = await _body(state, reader, writer)
            status, told = (413, _TOO_LARGE) if body is None else self._answer(request, body)
            content = json.dumps(told).encode()
            headers = [("Content-Type", "application/json"), ("Content-Length", str(len(content)))]
            writer.write(state.send(h11.Response(status_code=status, headers=headers)) or b"")
            writer.write(state.send(h11.Data(data=content)) or b"")
            writer.write(state.send(h11.EndOfMessage()) or b"")
            await writer.drain()
            if body is None or state.our_state is not h11.DONE:
                return
            state.start_next_cycle()

    def _answer(self, request: h11.Request, body: bytes) -> tuple[int, Fields]:
        path, _, query = request.target.decode("ascii").partition("?")
        try:
            rank, rest = self._addressed(path)
            told = _told(query, body)
            method = request.method.decode("ascii")
            return 200, self._tracking.answer(rank, method, rest, told, size=len(body))
        except TrackingError as error:
            return error.status, {"error_code": error.code, "message": error.message}
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            words = f"The request is not as MLflow's client sends it: {error!r}"
            return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": words}

    def _addressed(self, path: str) -> tuple[int, str]:
        parts = path.split("/", 3)
        if (
            len(parts) == 4
            and parts[2].isdigit()
            and secrets.compare_digest(parts[1], self._secret)
        ):
            return int(parts[2]), unquote("/" + parts[3])
        raise TrackingError("ENDPOINT_NOT_FOUND", "There is nothing at this address.", 404)


_TOO_LARGE: Fields = {
    "error_code": "INVALID_PARAMETER_VALUE",
    "message": f"A request has at most {MAX_BODY_BYTES >> 20} MiB.",
}


def _told(query: str, body: bytes) -> Fields:
    """What a request says: its body, and its query (lists for names that come twice)."""
    told: Fields = {}
    for name, value in parse_qsl(query):
        known = told.get(name)
        told[name] = (
            value if known is None else [*(known if isinstance(known, list) else [known]), value]
        )
    if body:
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            raise TrackingError("MALFORMED_REQUEST", "The request's body is no JSON.") from None
        if isinstance(found, dict):
            told |= found
    return told


async def _body(
    state: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bytes | None:
    """The request's body; ``None`` when it is too large."""
    parts: list[bytes] = []
    size = 0
    while True:
        event = await _next(state, reader, writer)
        if not isinstance(event, h11.Data):
            return b"".join(parts)
        size += len(event.data)
        if size > MAX_BODY_BYTES:
            return None
        parts.append(bytes(event.data))


async def _next(
    state: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Any:
    while True:
        event = state.next_event()
        if event is not h11.NEED_DATA:
            return event
        if state.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            writer.write(state.send(go_on) or b"")
        async with asyncio.timeout(_IDLE_S):
            state.receive_data(await reader.read(_READ_BYTES))
