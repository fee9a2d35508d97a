"""A pack's Merkle tree: what a peer proves, and what it can't."""

import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesra.storage.merkle import (
    BLOCK_BYTES,
    PIECE_BYTES,
    BlockUntrue,
    PackTree,
    TreeBuilder,
    check_block,
    check_tree,
    prove,
)

SIZES = [
    1,
    BLOCK_BYTES - 1,
    BLOCK_BYTES,
    BLOCK_BYTES + 1,
    5 * BLOCK_BYTES + 7,
    PIECE_BYTES,
    PIECE_BYTES + 1,
    5 * PIECE_BYTES + BLOCK_BYTES + 3,
]


def content(size: int) -> bytes:
    pattern = bytes(range(251))
    return (pattern * (size // len(pattern) + 1))[:size]


def tree_of(data: bytes, part: int = 10**9) -> PackTree:
    builder, stream = TreeBuilder(), io.BytesIO(data)
    while piece := stream.read(part):
        builder.update(piece)
    return builder.finish("p" * 64)


def block_of(data: bytes, block: int) -> tuple[bytes, list[bytes]]:
    per_piece = PIECE_BYTES // BLOCK_BYTES
    start = block // per_piece * PIECE_BYTES
    piece = data[start : start + PIECE_BYTES]
    inside = block % per_piece
    return piece[inside * BLOCK_BYTES : (inside + 1) * BLOCK_BYTES], prove(piece, inside)


@pytest.mark.parametrize("size", SIZES)
def test_the_tree_does_not_depend_on_how_the_bytes_came(size: int) -> None:
    data = content(size)
    assert tree_of(data) == tree_of(data, part=7919) == tree_of(data, part=BLOCK_BYTES)


@pytest.mark.parametrize("size", SIZES)
def test_every_block_is_proven_by_its_path(size: int) -> None:
    data = content(size)
    tree = tree_of(data)
    assert check_tree(tree)
    for block in range(tree.blocks):
        check_block(tree, block, *block_of(data, block))


@pytest.mark.parametrize("size", SIZES)
def test_a_flipped_bit_is_not_proven(size: int) -> None:
    data = content(size)
    tree = tree_of(data)
    block = tree.blocks - 1
    good, path = block_of(data, block)
    with pytest.raises(BlockUntrue):
        check_block(tree, block, bytes([good[0] ^ 1]) + good[1:], path)


def test_a_block_does_not_pass_for_another() -> None:
    data = content(3 * PIECE_BYTES)
    tree = tree_of(data)
    with pytest.raises(BlockUntrue):
        check_block(tree, 1, *block_of(data, 0))
    with pytest.raises(BlockUntrue):
        check_block(tree, tree.blocks, *block_of(data, 0))
    with pytest.raises(BlockUntrue):
        check_block(tree, -1, *block_of(data, 0))
    with pytest.raises(BlockUntrue):
        check_block(tree, 0, block_of(data, 0)[0], [])


@given(st.integers(0, 4), st.binary(min_size=32, max_size=32))
def test_a_changed_layer_does_not_belong_to_its_root(piece: int, other: bytes) -> None:
    tree = tree_of(content(5 * PIECE_BYTES))
    layer = tree.layer[: piece * 32] + other + tree.layer[(piece + 1) * 32 :]
    assert check_tree(replace(tree, layer=layer)) == (layer == tree.layer)
    assert not check_tree(replace(tree, layer=tree.layer[32:]))
