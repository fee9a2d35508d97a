"""A pack straight from the server is believed when it is the pack; else nothing of it stays."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from factories.plain_server import Answer, plain_server
from tesra.node.peer.direct import DirectDoor, DirectFailed
from tesra.storage.format import new_keys, seal_chunk
from tesra.storage.merkle import PackTree, TreeBuilder
from tesra.storage.packing import PackBuilder

KEYS = new_keys("epo_1")


def packed(content: bytes) -> tuple[PackTree, bytes]:
    builder, chunk_id = PackBuilder(), KEYS.chunk_id(content)
    builder.add(seal_chunk(KEYS.chunk_key(chunk_id), chunk_id, content))
    pack, tree = builder.finish(), TreeBuilder()
    data = b"".join(pack.pieces)
    tree.update(data)
    return tree.finish(pack.id), data


TREE, DATA = packed(os.urandom(3_000_001))


def giving(status: bytes, body: bytes, *, said: int | None = None) -> Answer:
    def answer(connection: socket.socket, _: bytes) -> bool:
        size = len(body) if said is None else said
        head = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (status, size)
        connection.sendall(head + body)
        return False

    return answer


def test_the_pack_comes_whole_and_the_token_goes_along(tmp_path: Path) -> None:
    with plain_server(giving(b"200 OK", DATA)) as (url, seen):
        DirectDoor(f"{url}/below/", "the token").fetch("peer_1", TREE, tmp_path / "pack")
    assert (tmp_path / "pack").read_bytes() == DATA
    assert seen.requests[0].startswith(
        b"GET /below/peer/v1/peers/peer_1/packs/%b " % TREE.pack_id.encode()
    )
    assert b"Authorization: Bearer the token\r\n" in seen.requests[0]


@pytest.mark.parametrize(
    "answer",
    [
        giving(b"404 Not Found", b"{}"),
        giving(b"503 Busy", b"{}"),
        giving(b"200 OK", DATA[:-1]),
        giving(b"200 OK", DATA[:1000], said=len(DATA)),
        giving(b"200 OK", DATA[:-1] + b"x"),
        giving(b"200 OK", b""),
        giving(b"nothing that is HTTP", b""),
    ],
)
def test_anything_else_fails_and_leaves_nothing(answer: Answer, tmp_path: Path) -> None:
    with plain_server(answer) as (url, _), pytest.raises(DirectFailed):
        DirectDoor(url, "t").fetch("peer_1", TREE, tmp_path / "pack")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_away_is_a_failure(
    tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    door = DirectDoor(f"http://127.0.0.1:{unused_tcp_port_factory()}", "t")
    with pytest.raises(DirectFailed):
        door.fetch("peer_1", TREE, tmp_path / "pack")
