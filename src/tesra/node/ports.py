"""Ports for a gang to meet at: free now, not given to another gang, and not taken by chance.

They lie below the range from which the kernel picks ports for outgoing connections, since
minutes may pass between the choice and its use.
"""

import random
import socket
import time
from collections.abc import Awaitable, Callable

from tesra.kit.errors import Unavailable

FIRST, LAST = 20_000, 32_767
_REMEMBERED = 2000
_DOZENS = 48
_STOCK_S = 60.0
_STRIDE = 7919  # a prime that no range of ports here is a multiple of: every port comes once


class NoPortFree(Unavailable):
    """This node has no free port for a gang."""


class Ports:
    """One per node agent; ``place`` of ``count`` that share this machine, each with its own ports."""

    def __init__(self, place: int = 0, count: int = 1) -> None:
        self._mine = range(FIRST + place, LAST + 1, count)
        self._given: dict[int, None] = {}  # the oldest first

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
                self._given[port] = None
        while len(self._given) > _REMEMBERED:
            del self._given[next(iter(self._given))]
        if len(found) < count:
            raise NoPortFree
        return sorted(found)


class PortStock:
    """A controller's ports of its nodes: asked for by the dozen, used within a minute."""

    def __init__(self) -> None:
        self._stock: dict[str, tuple[float, list[int]]] = {}

    async def take(
        self, node: str, count: int, ask: Callable[[int], Awaitable[list[int]]]
    ) -> list[int]:
        """So many, in ascending order; ``ask`` is the node's own ``free_ports``."""
        now = time.monotonic()
        since, ports = self._stock.get(node, (now, []))
        if len(ports) < count or now - since > _STOCK_S:
            since, ports = now, await ask(max(count, _DOZENS))
        self._stock[node] = since, ports[count:]
        return ports[:count]


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError:
            return False
    return True
