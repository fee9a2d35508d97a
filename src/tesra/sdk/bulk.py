"""Ranges and packs over HTTP at the cost of a socket: large bodies go in one piece, not in 64 KiB.

A transport of httpx. What asks for a range, or puts a body whose length is said, goes over
``http.client``, which reads a body straight into the bytes that are handed on, and sends one
without copying what is left of it; all else goes as before. Failures are httpx's own.
"""

import http.client
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import getproxies

import httpx

_PIECE_BYTES = 16 * 2**20
_IDLE_CONNECTIONS = 8


def bulk_transport(url: str, *, trust_env: bool) -> httpx.BaseTransport | None:
    """The transport to ``url``; None where a proxy of the environment has to be gone through."""
    if trust_env and getproxies():
        return None
    if httpx.URL(url).scheme == "https":
        return _BulkTransport(httpx.create_ssl_context(trust_env=trust_env))
    return _BulkTransport(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))  # trusts nobody; 20 ms sooner


class _BulkTransport(httpx.BaseTransport):
    """Safe to use from several threads; ``close`` closes every connection that rests."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._usual = httpx.HTTPTransport(verify=tls)
        self._idle: list[tuple[httpx.URL, http.client.HTTPConnection]] = []
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if not _is_bulk(request):
            return self._usual.handle_request(request)
        origin = request.url.copy_with(raw_path=b"/", fragment=None)
        while (known := self._rested(origin)) is not None:
            try:
                return self._answer(origin, known, request)
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                continue  # the other side had closed it meanwhile
        return self._answer(origin, self._connected(request), request)

    def close(self) -> None:
        self._usual.close()
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def rest(self, origin: httpx.URL, connection: http.client.HTTPConnection) -> None:
        """Keep a connection whose answer was read to its end for the next request."""
        with self._lock:
            if len(self._idle) < _IDLE_CONNECTIONS:
                self._idle.append((origin, connection))
                return
        connection.close()

    def _rested(self, origin: httpx.URL) -> http.client.HTTPConnection | None:
        with self._lock:
            for place in reversed(range(len(self._idle))):
                if self._idle[place][0] == origin:
                    return self._idle.pop(place)[1]
        return None

    def _connected(self, request: httpx.Request) -> http.client.HTTPConnection:
        wait_s = request.extensions.get("timeout", {}).get("connect")
        host, port = request.url.host, request.url.port
        if request.url.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=wait_s, context=self._tls
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=wait_s)
        try:
            connection.connect()
        except TimeoutError as error:
            raise httpx.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        return connection

    def _answer(
        self, origin: httpx.URL, connection: http.client.HTTPConnection, request: httpx.Request
    ) -> httpx.Response:
        try:
            with _httpx_words():
                connection.sock.settimeout(request.extensions.get("timeout", {}).get("read"))
                target = request.url.raw_path.decode("ascii")
                how = {"skip_host": True, "skip_accept_encoding": True}
                connection.putrequest(request.method, target, **how)
                for name, value in request.headers.raw:
                    connection.putheader(name, value)
                connection.endheaders()
                _send_body(connection, request)
                answer = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        return httpx.Response(
            answer.status,
            headers=answer.getheaders(),
            stream=_Body(self, origin, connection, answer),
            extensions={"reason_phrase": answer.reason.encode("ascii", "replace")},
        )


def _is_bulk(request: httpx.Request) -> bool:
    if request.method == "GET":
        return "Range" in request.headers
    return request.method == "PUT" and "Content-Length" in request.headers


def _send_body(connection: http.client.HTTPConnection, request: httpx.Request) -> None:
    """Who refuses a body may close before all of it was sent: what it says is heard all the same."""
    assert isinstance(request.stream, httpx.SyncByteStream)  # of a synchronous client
    try:
        for piece in request.stream:
            connection.send(piece)
    except (BrokenPipeError, ConnectionResetError):
        return


class _Body(httpx.SyncByteStream):
    """An answer's bytes; the connection rests once all of them were read."""

    def __init__(
        self,
        transport: _BulkTransport,
        origin: httpx.URL,
        connection: http.client.HTTPConnection,
        answer: http.client.HTTPResponse,
    ) -> None:
        self._transport = transport
        self._origin = origin
        self._connection = connection
        self._answer = answer
        self._closes = answer.will_close

    def __iter__(self) -> Iterator[bytes]:
        with _httpx_words():
            while piece := self._answer.read(_PIECE_BYTES):
                yield piece
            if self._answer.length:
                raise httpx.ReadError(f"The answer ended {self._answer.length} bytes early.")

    def close(self) -> None:
        whole = self._answer.isclosed() and not self._answer.length
        self._answer.close()
        if whole and not self._closes:
            self._transport.rest(self._origin, self._connection)
        else:
            self._connection.close()


@contextmanager
def _httpx_words() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise httpx.ReadTimeout(str(error)) from error
    except OSError as error:  # http.client's RemoteDisconnected among them
        raise httpx.ReadError(str(error)) from error
    except http.client.HTTPException as error:
        raise httpx.RemoteProtocolError(str(error)) from error
