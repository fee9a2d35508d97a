"""A pack's Merkle tree, as BitTorrent v2 has it (BEP 52): what proves any 16 KiB of it alone.

Leaves are SHA-256 of 16 KiB blocks; what is missing to a power of two counts as zeros. A *piece*
is 256 KiB; the hashes of the pieces are the *layer*. The root names the content for every peer;
with the layer each piece is checked as it comes, and an audit needs one block and a short path.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from tesra.kit.errors import TesraError

BLOCK_BYTES = 16 * 2**10
PIECE_BYTES = 256 * 2**10
HASH_BYTES = 32
_BLOCKS_A_PIECE = PIECE_BYTES // BLOCK_BYTES
_ZERO = bytes(HASH_BYTES)


class BlockUntrue(TesraError):
    """A block is not what the pack holds there."""


@dataclass(frozen=True, slots=True)
class PackTree:
    """What is known of a pack's content without having it.

    ``layer``: the pieces' hashes joined, empty when the pack is a single piece.
    """

    pack_id: str
    size_bytes: int
    root: bytes
    layer: bytes

    @property
    def pieces(self) -> int:
        return -(-self.size_bytes // PIECE_BYTES)

    @property
    def blocks(self) -> int:
        return -(-self.size_bytes // BLOCK_BYTES)

    def piece_root(self, piece: int) -> bytes:
        """The hash of one piece; the root itself when there is only one."""
        return self.layer[piece * HASH_BYTES : (piece + 1) * HASH_BYTES] or self.root


class TreeBuilder:
    """Feed it the pack's bytes in order, in parts of any size; then ``finish``."""

    def __init__(self) -> None:
        self._leaves: list[bytes] = []
        self._rest = b""
        self._size = 0

    def update(self, data: bytes) -> None:
        self._size += len(data)
        view = memoryview(data)
        if self._rest:
            lacking = BLOCK_BYTES - len(self._rest)
            self._rest, view = self._rest + bytes(view[:lacking]), view[lacking:]
            if len(self._rest) < BLOCK_BYTES:
                return
            self._leaves.append(hashlib.sha256(self._rest).digest())
        whole = len(view) - len(view) % BLOCK_BYTES
        self._leaves += [
            hashlib.sha256(view[start : start + BLOCK_BYTES]).digest()
            for start in range(0, whole, BLOCK_BYTES)
        ]
        self._rest = bytes(view[whole:])

    def finish(self, pack_id: str) -> PackTree:
        """The tree of all that came; the builder is of no use any more."""
        if self._rest:
            self._leaves.append(hashlib.sha256(self._rest).digest())
        if len(self._leaves) <= _BLOCKS_A_PIECE:
            return PackTree(pack_id, self._size, _root(self._leaves, _ZERO), b"")
        pieces = [
            _padded_root(self._leaves[start : start + _BLOCKS_A_PIECE])
            for start in range(0, len(self._leaves), _BLOCKS_A_PIECE)
        ]
        return PackTree(pack_id, self._size, _root(pieces, _padded_root([])), b"".join(pieces))


def check_tree(tree: PackTree) -> bool:
    """Whether layer, size and root belong together."""
    if tree.pieces <= 1:
        return tree.layer == b"" and len(tree.root) == HASH_BYTES
    if len(tree.layer) != tree.pieces * HASH_BYTES:
        return False
    pieces = [tree.piece_root(piece) for piece in range(tree.pieces)]
    return _root(pieces, _padded_root([])) == tree.root


def prove(piece_data: bytes, block: int) -> list[bytes]:
    """The path of a block (its number within the piece) to the piece's hash."""
    leaves = _leaves(piece_data)
    width = _BLOCKS_A_PIECE
    level = [*leaves, *[_ZERO] * (width - len(leaves))]
    path = []
    while len(level) > 1:
        path.append(level[block ^ 1])
        level, block = _up(level), block // 2
    return path


def check_block(tree: PackTree, block: int, data: bytes, path: Sequence[bytes]) -> None:
    """Raises ``BlockUntrue`` unless ``data`` is block number ``block`` of the pack.

    ``path`` is what ``prove`` gave; in a pack of a single piece only its lower part counts.
    """
    start = block * BLOCK_BYTES
    expected = min(BLOCK_BYTES, tree.size_bytes - start)
    depth = _depth(tree)
    if block < 0 or expected <= 0 or len(data) != expected or len(path) < depth:
        raise BlockUntrue
    digest, place = hashlib.sha256(data).digest(), block % _BLOCKS_A_PIECE
    for beside in path[:depth]:
        pair = beside + digest if place % 2 else digest + beside
        digest, place = hashlib.sha256(pair).digest(), place // 2
    if digest != tree.piece_root(block // _BLOCKS_A_PIECE):
        raise BlockUntrue(f"block {block} of pack {tree.pack_id} is not what was stored")


def _depth(tree: PackTree) -> int:
    """Levels between a block and its piece's hash; fewer in a pack of a single small piece."""
    blocks = _BLOCKS_A_PIECE if tree.layer else tree.blocks
    return (blocks - 1).bit_length()


def _leaves(data: bytes) -> list[bytes]:
    view = memoryview(data)
    return [
        hashlib.sha256(view[start : start + BLOCK_BYTES]).digest()
        for start in range(0, len(view), BLOCK_BYTES)
    ]


def _root(hashes: Sequence[bytes], filler: bytes) -> bytes:
    """The root over these, filled up to a power of two."""
    width = 1 << max(0, len(hashes) - 1).bit_length()
    level = [*hashes, *[filler] * (width - len(hashes))]
    while len(level) > 1:
        level = _up(level)
    return level[0]


def _padded_root(leaves: Sequence[bytes]) -> bytes:
    """A whole piece's hash, what is missing being zeros."""
    return _root([*leaves, *[_ZERO] * (_BLOCKS_A_PIECE - len(leaves))], _ZERO)


def _up(level: Sequence[bytes]) -> list[bytes]:
    return [
        hashlib.sha256(level[index] + level[index + 1]).digest()
        for index in range(0, len(level), 2)
    ]
