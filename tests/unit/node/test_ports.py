"""Ports for gangs."""

import socket

import pytest

from tesra.node import ports
from tesra.node.ports import FIRST, LAST, NoPortFree, Ports


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
