"""What every transport of packs has to do: BitTorrent's, and the one of the tests."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from factories.peers import identity_of, tree_of
from fakes.swarm import FakeSwarm
from tesra.storage.merkle import PackTree
from tesra.storage.swarm import (
    LibtorrentSwarm,
    Swarm,
    SwarmFailed,
    TransferStalled,
)

MIB = 2**20
MakePeer = Callable[..., Awaitable[Any]]


@pytest.fixture(params=[LibtorrentSwarm, FakeSwarm])
async def peer(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MakePeer]:
    """Makes open swarms under one authority; all are closed after the test."""
    async with AsyncExitStack() as stack:

        async def make(name: str, authority: str = "ours") -> Swarm:
            swarm = request.param(identity_of(name, tmp_path / authority))
            await swarm.open()
            stack.push_async_callback(swarm.close)
            return swarm

        yield make


@pytest.fixture
def folders(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        (tmp_path / name).mkdir(exist_ok=True)
        return tmp_path / name

    return make


def put(folder: Path, data: bytes, name: str = "a") -> PackTree:
    tree = tree_of(data, name * 64)
    (folder / tree.pack_id).write_bytes(data)
    return tree


def at(swarm: Swarm) -> tuple[str, int]:
    return ("127.0.0.1", swarm.port)


@pytest.mark.parametrize("size", [1, 20_000, 3 * MIB + 5])
async def test_a_pack_arrives_whole(
    peer: MakePeer, folders: Callable[[str], Path], size: int
) -> None:
    holder, reader = await peer("holder"), await peer("reader")
    tree = put(folders("holder"), os.urandom(size))
    await holder.serve(tree, folders("holder"))
    await reader.fetch(tree, folders("reader"), [at(holder)])
    assert _same(folders, tree, "holder", "reader")
    assert reader.active() == [tree.pack_id]


@pytest.mark.parametrize("there", [3 * MIB + 5, MIB])
async def test_what_lies_there_already_counts_once_it_is_checked(
    peer: MakePeer, folders: Callable[[str], Path], there: int
) -> None:
    """As it does for a peer that was killed while it received."""
    holder, reader = await peer("holder"), await peer("reader")
    tree = put(folders("holder"), os.urandom(3 * MIB + 5))
    content = (folders("holder") / tree.pack_id).read_bytes()
    (folders("reader") / tree.pack_id).write_bytes(content[:there])
    await holder.serve(tree, folders("holder"))
    await reader.fetch(tree, folders("reader"), [at(holder)], stall_s=20)
    assert _same(folders, tree, "holder", "reader")


async def test_many_packs_arrive_side_by_side_from_two_holders(
    peer: MakePeer, folders: Callable[[str], Path]
) -> None:
    first, second, reader = await peer("first"), await peer("second"), await peer("reader")
    trees = []
    for name in "abcdef":
        data = os.urandom(MIB)
        trees.append(put(folders("first"), data, name))
        put(folders("second"), data, name)
        await first.serve(trees[-1], folders("first"))
        await second.serve(trees[-1], folders("second"))
    peers = [at(first), at(second)]
    await asyncio.gather(*(reader.fetch(tree, folders("reader"), peers) for tree in trees))
    assert all(_same(folders, tree, "first", "reader") for tree in trees)


async def test_a_chain_hands_on_what_it_has(peer: MakePeer, folders: Callable[[str], Path]) -> None:
    source, middle, last = await peer("source"), await peer("middle"), await peer("last")
    tree = put(folders("source"), os.urandom(4 * MIB))
    await source.serve(tree, folders("source"))
    await asyncio.gather(
        middle.fetch(tree, folders("middle"), [at(source)]),
        last.fetch(tree, folders("last"), [at(middle)]),
    )
    assert _same(folders, tree, "source", "last")


async def test_a_rotten_copy_is_never_delivered(
    peer: MakePeer, folders: Callable[[str], Path]
) -> None:
    good, rotten, reader = await peer("good"), await peer("rotten"), await peer("reader")
    data = os.urandom(2 * MIB)
    tree = put(folders("good"), data)
    put(folders("rotten"), data)
    path = folders("rotten") / tree.pack_id
    spoilt = bytearray(data)
    spoilt[MIB] ^= 1
    path.write_bytes(spoilt)
    await good.serve(tree, folders("good"))
    await rotten.serve(tree, folders("rotten"))
    await reader.fetch(tree, folders("reader"), [at(rotten), at(good)])
    assert _same(folders, tree, "good", "reader")


async def test_nothing_comes_when_the_only_copy_is_rotten(
    peer: MakePeer, folders: Callable[[str], Path]
) -> None:
    rotten, reader = await peer("rotten"), await peer("reader")
    tree = put(folders("rotten"), os.urandom(MIB))
    (folders("rotten") / tree.pack_id).write_bytes(os.urandom(MIB))
    await rotten.serve(tree, folders("rotten"))
    with pytest.raises((TransferStalled, SwarmFailed)):
        await reader.fetch(tree, folders("reader"), [at(rotten)], stall_s=1.0)
    assert reader.active() == []


async def test_a_stranger_gets_nothing(peer: MakePeer, folders: Callable[[str], Path]) -> None:
    holder, stranger = await peer("holder"), await peer("stranger", authority="theirs")
    tree = put(folders("holder"), os.urandom(MIB))
    await holder.serve(tree, folders("holder"))
    with pytest.raises(TransferStalled):
        await stranger.fetch(tree, folders("stranger"), [at(holder)], stall_s=1.0)


async def test_a_peer_that_is_told_later_is_asked_too(
    peer: MakePeer, folders: Callable[[str], Path]
) -> None:
    holder, reader = await peer("holder"), await peer("reader")
    tree = put(folders("holder"), os.urandom(MIB))
    await holder.serve(tree, folders("holder"))
    fetching = asyncio.create_task(reader.fetch(tree, folders("reader"), []))
    while tree.pack_id not in reader.active() and type(reader) is LibtorrentSwarm:
        await asyncio.sleep(0)
    await reader.introduce(tree.pack_id, [at(holder)])
    await fetching
    assert _same(folders, tree, "holder", "reader")


async def test_what_is_missing_or_short_is_not_served(
    peer: MakePeer, folders: Callable[[str], Path]
) -> None:
    holder = await peer("holder")
    tree = put(folders("holder"), os.urandom(MIB))
    path = folders("holder") / tree.pack_id
    os.truncate(path, MIB - 1)
    with pytest.raises(SwarmFailed):
        await holder.serve(tree, folders("holder"))
    path.unlink()
    with pytest.raises(SwarmFailed):
        await holder.serve(tree, folders("holder"))


async def test_a_pack_at_rest_is_not_given_and_can_be_served_again(
    peer: MakePeer, folders: Callable[[str], Path]
) -> None:
    holder, reader = await peer("holder"), await peer("reader")
    tree = put(folders("holder"), os.urandom(MIB))
    await holder.serve(tree, folders("holder"))
    await holder.rest(tree.pack_id)
    await holder.rest(tree.pack_id)
    assert holder.active() == []
    with pytest.raises(TransferStalled):
        await reader.fetch(tree, folders("reader"), [at(holder)], stall_s=0.7)
    await holder.serve(tree, folders("holder"))
    await reader.fetch(tree, folders("reader"), [at(holder)])
    assert _same(folders, tree, "holder", "reader")


async def test_who_has_no_certificate_of_the_new_authority_is_shut_out(
    peer: MakePeer, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    """So a peer is revoked: all others get new ones."""
    holder, reader, revoked = [await peer(name) for name in ("holder", "reader", "revoked")]
    tree = put(folders("holder"), os.urandom(MIB))
    await holder.serve(tree, folders("holder"))
    waiting = asyncio.create_task(reader.fetch(tree, folders("reader"), [], stall_s=20))
    while tree.pack_id not in reader.active() and type(reader) is LibtorrentSwarm:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    for swarm, name in ((holder, "holder"), (reader, "reader")):
        await swarm.renew(identity_of(name, tmp_path / "another"))
        assert swarm.active() == []
    with pytest.raises(SwarmFailed):
        await waiting
    await holder.serve(tree, folders("holder"))
    with pytest.raises(TransferStalled):
        await revoked.fetch(tree, folders("revoked"), [at(holder)], stall_s=1.0)
    await reader.fetch(tree, folders("reader"), [at(holder)])
    assert _same(folders, tree, "holder", "reader")


async def test_a_renewed_certificate_of_the_same_authority_disturbs_nobody(
    peer: MakePeer, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    holder, reader = await peer("holder"), await peer("reader")
    tree = put(folders("holder"), os.urandom(MIB))
    await holder.serve(tree, folders("holder"))
    await holder.renew(identity_of("holder", tmp_path / "ours"))
    assert holder.active() == [tree.pack_id]
    await reader.fetch(tree, folders("reader"), [at(holder)])
    assert _same(folders, tree, "holder", "reader")


def _same(folders: Callable[[str], Path], tree: PackTree, one: str, other: str) -> bool:
    return (folders(one) / tree.pack_id).read_bytes() == (
        folders(other) / tree.pack_id
    ).read_bytes()
