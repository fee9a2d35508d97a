"""Large bodies go over connections that are kept, and every failure is one that httpx knows."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from factories.plain_server import Answer, Counted, plain_server
from tesra.sdk.bulk import bulk_transport

BODY = bytes(range(256)) * 4096
RANGE = {"Range": "bytes=0-1048575"}
PACK = {"Content-Length": str(len(BODY))}


@contextmanager
def answering(answer: Answer) -> Iterator[tuple[httpx.Client, Counted]]:
    """A client of a server that answers each request with ``answer``."""
    with (
        plain_server(answer) as (url, seen),
        httpx.Client(
            base_url=url,
            transport=bulk_transport(url, trust_env=False),
            timeout=5.0,
            trust_env=False,
        ) as client,
    ):
        yield client, seen


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


def taken(connection: socket.socket, _: bytes) -> bool:
    """Reads the whole body, and says its hash."""
    body = b""
    while len(body) < len(BODY):
        body += connection.recv(65536)
    said = str(hash(body)).encode()
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))
    return True


def refused_at_once(connection: socket.socket, _: bytes) -> bool:
    """Before any of the body was read; what comes of it meets a closed door."""
    connection.sendall(b"HTTP/1.1 413 No\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfull")
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)
    return False


def test_pack_is_sent_piece_by_piece_over_a_connection_that_is_kept() -> None:
    pieces = [BODY[:3], BODY[3:700_000], BODY[700_000:]]
    with answering(taken) as (client, seen):
        for _ in range(2):
            answer = client.put("/packs/a", content=iter(pieces), headers=PACK)
            assert answer.text == str(hash(BODY))
        assert seen.connections == 1
        head = seen.requests[0].lower()
        assert head.startswith(b"put /packs/a http/1.1\r\n")
        assert b"transfer-encoding" not in head


def test_who_refuses_a_pack_before_all_of_it_came_is_heard() -> None:
    with answering(refused_at_once) as (client, _):
        answer = client.put("/packs/a", content=iter([BODY] * 40), headers=PACK)
        assert (answer.status_code, answer.text) == (413, "full")
