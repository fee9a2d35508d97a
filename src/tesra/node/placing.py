"""How an assignment's devices become each node's part of the gang. Pure."""

from collections import Counter
from collections.abc import Mapping

from tesra.node.orders import GangOrder
from tesra.node.rank_plan import Place
from tesra.wire.site import Assignment

_LOOPBACK = "127.0.0.1"


def nodes_of(assignment: Assignment) -> tuple[str, ...]:
    """The nodes in the order of the assignment's devices: node 0 is the first device's."""
    return tuple(dict.fromkeys(device.node for device in assignment.devices))


def device_counts(assignment: Assignment) -> dict[str, int]:
    """How many devices of each node the gang takes."""
    return Counter(device.node for device in assignment.devices)


def orders_of(
    assignment: Assignment, addresses: Mapping[str, str], master_port: int
) -> dict[str, GangOrder]:
    """One order for each node; ranks count through the nodes, a single process has rank 0."""
    nodes = nodes_of(assignment)
    single = assignment.spec.launch == "single"
    master = _LOOPBACK if len(nodes) == 1 else addresses[nodes[0]]
    orders, rank_start = {}, 0
    for node_rank, node in enumerate(nodes):
        indices = tuple(device.index for device in assignment.devices if device.node == node)
        place = Place(
            rank_start=rank_start,
            world_size=1 if single else len(assignment.devices),
            node_rank=node_rank,
            node_count=len(nodes),
            master_addr=master,
            master_port=master_port,
        )
        orders[node] = GangOrder(assignment=assignment, place=place, indices=indices)
        rank_start += len(indices)
    return orders
