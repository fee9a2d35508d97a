"""Ports for gangs."""

import socket
import time

import pytest

from tesra.node import ports
from tesra.node.ports import FIRST, LAST, NoPortFree, Ports, PortStock


def test_ports_are_free_different_and_never_given_twice() -> None:
    giver = Ports()
    given = [*giver.take(20), *giver.take(20)]
    assert len(set(given)) == 40
    assert all(FIRST <= port <= LAST for port in given)
    for port in given:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))


def test_nodes_of_one_machine_never_give_the_same_port() -> None:
    first, second = Ports(0, 2), Ports(1, 2)
    assert not set(first.take(200)) & set(second.take(200))


def test_port_that_is_taken_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        monkeypatch.setattr(ports, "FIRST", taken)
        monkeypatch.setattr(ports, "LAST", taken)
        with pytest.raises(NoPortFree):
            Ports().take(1)


async def test_a_controller_asks_for_ports_by_the_dozen_and_uses_each_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, giver, stock = [], Ports(), PortStock()

    async def ask(count: int) -> list[int]:
        asked.append(count)
        return giver.take(count)

    given = [await stock.take("nod_1", 3, ask) for _ in range(8)]
    assert len(asked) == 1
    assert all(some == sorted(some) for some in given)
    assert len({port for some in given for port in some}) == 24
    assert len(await stock.take("nod_1", 500, ask)) == 500
    later = time.monotonic() + 61.0
    monkeypatch.setattr(time, "monotonic", lambda: later)
    await stock.take("nod_1", 1, ask)
    assert len(asked) == 3, "ports that nobody has looked at for a minute may be taken by now"
