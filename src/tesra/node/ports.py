"""Ports for a gang to meet at: free now, not given to another gang, and not taken by chance.

They lie below the range from which the kernel picks ports for outgoing connections, since
minutes may pass between the choice and its use.
"""

import random
import socket
from collections import deque

from tesra.kit.errors import Unavailable

FIRST, LAST = 20_000, 32_767
_REMEMBERED = 2000
_STRIDE = 7919  # a prime that no range of ports here is a multiple of: every port comes once


class NoPortFree(Unavailable):
    """This node has no free port for a gang."""


class Ports:
    """One per node agent; ``place`` of ``count`` that share this machine, each with its own ports."""

    def __init__(self, place: int = 0, count: int = 1) -> None:
        self._mine = range(FIRST + place, LAST + 1, count)
        self._given: deque[int] = deque(maxlen=_REMEMBERED)

    def take(self, count: int) -> list[int]:
        """So many different ports in ascending order; none of them is given again for long."""
        found: list[int] = []
        start = random.randrange(len(self._mine))  # noqa: S311 - against collisions, not a secret
        for step in range(len(self._mine)):
            if len(found) == count:
                break
            port = self._mine[(start + step * _STRIDE) % len(self._mine)]
            if port not in self._given and _is_free(port):
                found.append(port)
                self._given.append(port)
        if len(found) < count:
            raise NoPortFree
        return sorted(found)


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError:
            return False
    return True
