"""What holders are asked to show, and what their silence means. Pure.

Three things that are told apart: a peer that is *offline* does not speak at all, and is not to
blame; one that is *contained* speaks, and does not show what it is asked for; one that has
*failed* has shown something else than it was given.
"""

from collections.abc import Callable

from tesra.drive.peers.placement import CONTAINED, FAILED, GOOD
from tesra.storage.merkle import PackTree

BLOCKS = 4  # of 16 KiB, of each copy
EVERY_S = 24 * 3600.0  # a copy is proven anew after this time
ANSWER_S = 30.0  # for a challenge of a few blocks
SCRUB_BYTES_A_S = 5e6  # what a slow, busy disk does at least
TRUST_AFTER = 20  # proofs in a row, and a peer that failed is as good as others


def choose_blocks(tree: PackTree, below: Callable[[int], int], count: int = BLOCKS) -> list[int]:
    """Different blocks by chance, sorted; ``below(n)`` is a random number from 0 up to n - 1."""
    if tree.blocks <= count:
        return list(range(tree.blocks))
    chosen: set[int] = set()
    while len(chosen) < count:
        chosen.add(below(tree.blocks))
    return sorted(chosen)


def is_overdue(asked_ago_s: float, *, scrub: bool, queued_bytes: int) -> bool:
    """Whether a peer that speaks should have answered by now; ``queued_bytes``: what it was asked
    to look through altogether."""
    patience_s = ANSWER_S + (queued_bytes / SCRUB_BYTES_A_S if scrub else 0.0)
    return asked_ago_s > patience_s


def standing_after(standing: str, proofs: int, *, good: bool) -> tuple[str, int]:
    """How a peer stands after one more answer; ``proofs``: good ones since it stands so."""
    if not good:
        return FAILED, 0
    proofs += 1
    if standing == CONTAINED or (standing == FAILED and proofs >= TRUST_AFTER):
        return GOOD, 0
    return standing, proofs
