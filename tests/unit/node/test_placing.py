"""Each node's part of a gang."""

from typing import Literal

from tesra.node.placing import orders_of, port_counts
from tesra.wire.site import AssignedDevice, Assignment, EngineSpec, RunSpec

ADDRESSES = {"n1": "10.0.0.1", "n2": "10.0.0.2"}


def assignment(*nodes: str, launch: Literal["gang", "single"] = "gang") -> Assignment:
    engine = EngineSpec(name="e", version="1", requirements=[], python=">=3.10", announce="none")
    spec = RunSpec(
        owner="u",
        project="p",
        snapshot="s",
        engine=engine,
        packages=[],
        entry="train.py",
        args=[],
        output="out",
        launch=launch,
        params={},
        env={},
        secrets={},
    )
    devices = [
        AssignedDevice(node=node, device=f"d{i}", index=i, device_class="cpu", rating_micro_t=1)
        for i, node in enumerate(nodes)
    ]
    return Assignment(run="r", attempt="a", number=1, fence=1, devices=devices, spec=spec)


def test_each_rank_has_a_port_and_the_master_one_more() -> None:
    assert port_counts(assignment("n1", "n2", "n2")) == {"n1": 2, "n2": 2}


def test_ranks_of_two_nodes_learn_all_addresses_in_rank_order() -> None:
    ports = {"n1": [1, 2], "n2": [3, 4]}
    orders = orders_of(assignment("n1", "n2", "n2"), ADDRESSES, ports)
    first, second = orders["n1"].place, orders["n2"].place
    assert (first.master_addr, first.master_port) == ("10.0.0.1", 1)
    assert first.peers == second.peers == ("10.0.0.1:2", "10.0.0.2:3", "10.0.0.2:4")
    assert (second.node_addr, second.rank_start, second.world_size) == ("10.0.0.2", 1, 3)


def test_ports_grow_with_the_rank_on_nodes_that_share_a_machine() -> None:
    ports = {"n1": [7, 8], "n2": [1, 5]}
    orders = orders_of(assignment("n1", "n2", "n2"), dict.fromkeys(ADDRESSES, "10.0.0.1"), ports)
    place = orders["n1"].place
    assert place.master_port == 1
    assert place.peers == ("10.0.0.1:5", "10.0.0.1:7", "10.0.0.1:8")


def test_gang_on_one_node_stays_on_loopback() -> None:
    place = orders_of(assignment("n1", "n1"), ADDRESSES, {"n1": [1, 2, 3]})["n1"].place
    assert place.peers == ("127.0.0.1:2", "127.0.0.1:3")
    assert (place.master_addr, place.node_addr) == ("127.0.0.1", "127.0.0.1")
