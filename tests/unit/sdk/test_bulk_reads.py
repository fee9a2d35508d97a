"""Ranges come over connections that are kept, and every failure is one that httpx knows."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile

import httpx
import pytest

from tesra.sdk.bulk import bulk_transport

BODY = bytes(range(256)) * 4096
RANGE = {"Range": "bytes=0-1048575"}
Answer = Callable[[socket.socket, bytes], bool]  # says whether the connection stays


class Counted:
    """What a server of this test has seen."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[bytes] = []


@contextmanager
def answering(answer: Answer) -> Iterator[tuple[httpx.Client, Counted]]:
    """A client of a server that answers each request with ``answer``."""
    seen = Counted()
    listening = socket.create_server(("127.0.0.1", 0))

    def talk(connection: socket.socket) -> None:
        with suppress(ConnectionError), connection, connection.makefile("rb") as lines:
            while request := b"".join(takewhile(lambda line: line.strip(), lines)):
                seen.requests.append(request)
                if not answer(connection, request):
                    return

    def listen() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            seen.connections += 1
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    client = httpx.Client(
        base_url=url,
        transport=bulk_transport(url, trust_env=False),
        timeout=5.0,
        trust_env=False,
    )
    try:
        yield client, seen
    finally:
        client.close()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def whole(connection: socket.socket, _: bytes) -> bool:
    head = f"HTTP/1.1 206 Partial Content\r\nContent-Length: {len(BODY)}\r\n\r\n"
    connection.sendall(head.encode() + BODY)
    return True


def whole_then_closed(connection: socket.socket, request: bytes) -> bool:
    whole(connection, request)
    return False


def half(connection: socket.socket, _: bytes) -> bool:
    head = f"HTTP/1.1 206 Partial Content\r\nContent-Length: {len(BODY)}\r\n\r\n"
    connection.sendall(head.encode() + BODY[: len(BODY) // 2])
    return False


def refused(connection: socket.socket, _: bytes) -> bool:
    connection.sendall(b"HTTP/1.1 416 No\r\nContent-Length: 2\r\nX-Why: short\r\n\r\nno")
    return True


def silent(connection: socket.socket, _: bytes) -> bool:
    connection.recv(1)  # until the client has had enough
    return False


def test_one_connection_serves_one_range_after_another_and_sends_what_it_was_given() -> None:
    with answering(whole) as (client, seen):
        for _ in range(3):
            answer = client.get(
                "/packs/a?doubt=true", headers={**RANGE, "Authorization": "Bearer x"}
            )
            assert answer.status_code == 206
            assert answer.content == BODY
        assert seen.connections == 1
        first = seen.requests[0].lower()
        assert first.startswith(b"get /packs/a?doubt=true http/1.1\r\n")
        assert b"authorization: bearer x\r\n" in first
        assert first.count(b"\r\nhost:") == 1
        assert first.count(b"accept-encoding:") == 1


def test_connection_that_the_server_closed_meanwhile_is_replaced() -> None:
    with answering(whole_then_closed) as (client, seen):
        for _ in range(3):
            assert client.get("/", headers=RANGE).content == BODY
        assert seen.connections == 3


def test_answer_that_ends_early_is_an_error_and_its_connection_is_not_used_again() -> None:
    with answering(half) as (client, seen):
        for _ in range(2):
            with pytest.raises(httpx.ReadError, match="early"):
                client.get("/", headers=RANGE)
        assert seen.connections == 2


def test_answer_that_is_not_read_to_its_end_does_not_spoil_the_next() -> None:
    with answering(whole) as (client, seen):
        with client.stream("GET", "/", headers=RANGE) as answer:
            assert answer.status_code == 206
        assert client.get("/", headers=RANGE).content == BODY
        assert seen.connections == 2


def test_refusal_comes_with_its_status_headers_and_body() -> None:
    with answering(refused) as (client, seen):
        for _ in range(2):
            answer = client.get("/", headers=RANGE)
            assert (answer.status_code, answer.content) == (416, b"no")
            assert answer.headers["x-why"] == "short"
        assert seen.connections == 1


def test_silence_is_a_timeout() -> None:
    with answering(silent) as (client, _), pytest.raises(httpx.ReadTimeout):
        client.get("/", headers=RANGE, timeout=0.2)


def test_nobody_there_is_a_connect_error() -> None:
    with answering(whole) as (client, _):
        pass
    transport = bulk_transport(str(client.base_url), trust_env=False)
    gone = httpx.Client(base_url=client.base_url, transport=transport, trust_env=False)
    with gone, pytest.raises(httpx.ConnectError):
        gone.get("/", headers=RANGE)


def test_proxy_of_the_environment_is_left_to_httpx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert bulk_transport("https://tesra.example", trust_env=True) is None
