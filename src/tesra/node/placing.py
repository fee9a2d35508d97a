"""How an assignment's devices become each node's part of the gang. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tesra.node.orders import GangOrder
from tesra.node.rank_plan import Place
from tesra.wire.site import Assignment, RunLimit

_LOOPBACK = "127.0.0.1"


def nodes_of(assignment: Assignment) -> tuple[str, ...]:
    """The nodes in the order of the assignment's devices: node 0 is the first device's."""
    return tuple(dict.fromkeys(device.node for device in assignment.devices))


def device_counts(assignment: Assignment) -> dict[str, int]:
    """How many devices of each node the gang takes."""
    return Counter(device.node for device in assignment.devices)


def port_counts(assignment: Assignment) -> dict[str, int]:
    """How many ports the gang needs on each node: one for each rank, and the master's on node 0."""
    counts = device_counts(assignment)
    counts[nodes_of(assignment)[0]] += 1
    return counts


def orders_of(
    assignment: Assignment, addresses: Mapping[str, str], ports: Mapping[str, Sequence[int]]
) -> dict[str, GangOrder]:
    """One order for each node; ranks count through the nodes, a single process has rank 0.

    ``ports``: as many as ``port_counts`` says. Those of one address grow with the rank, whichever
    of its nodes found them: MXNet numbers its workers by their ports.
    """
    nodes = nodes_of(assignment)
    single = assignment.spec.launch == "single"
    hosts = {node: _LOOPBACK if len(nodes) == 1 else addresses[node] for node in nodes}
    counts = device_counts(assignment)
    free = {
        host: iter(sorted(port for node in nodes if hosts[node] == host for port in ports[node]))
        for host in hosts.values()
    }
    master_port = next(free[hosts[nodes[0]]])
    peers = tuple(
        f"{hosts[node]}:{next(free[hosts[node]])}" for node in nodes for _ in range(counts[node])
    )
    orders, rank_start = {}, 0
    for node_rank, node in enumerate(nodes):
        indices = tuple(device.index for device in assignment.devices if device.node == node)
        place = Place(
            rank_start=rank_start,
            world_size=1 if single else len(assignment.devices),
            node_rank=node_rank,
            node_count=len(nodes),
            master_addr=hosts[nodes[0]],
            master_port=master_port,
            peers=peers,
            node_addr=hosts[node],
        )
        orders[node] = GangOrder(assignment=assignment, place=place, indices=indices)
        rank_start += len(indices)
    return orders


def limits_of(listed: Mapping[str, Assignment], attempts: Iterable[str]) -> dict[str, RunLimit]:
    """The limits of those among ``attempts`` that have one."""
    found = {attempt: listed[attempt].limit for attempt in attempts if attempt in listed}
    return {attempt: limit for attempt, limit in found.items() if limit is not None}
