"""How a gang is told to its framework: pure functions from a rank's place to variables.

Each way is one entry of ``_WAYS``; an engine names the one it wants (``EngineSpec.announce``). A
framework that needs more processes than its ranks (MXNet's scheduler and servers) gets helpers.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from tesra.kit.errors import Invalid

_LOOPBACK = "127.0.0.1"


class AnnounceUnknown(Invalid):
    """This node does not know how to announce a gang to this engine."""


@dataclass(frozen=True, slots=True)
class RankPlace:
    """One rank among all (``rank`` of ``world_size``) and on its node (``local_rank``).

    ``peers`` has an address ``host:port`` for each rank, in order, beside the master's own.
    """

    rank: int
    local_rank: int
    world_size: int
    local_world_size: int
    node_rank: int
    node_count: int
    master_addr: str
    master_port: int
    peers: tuple[str, ...] = ()
    node_addr: str = _LOOPBACK


@dataclass(frozen=True, slots=True)
class Helper:
    """A process beside the ranks: what the engine's Python is to run, and what it is told."""

    name: str
    code: str
    environ: dict[str, str]


def gang_variables(announce: str, place: RankPlace) -> dict[str, str]:
    """The variables that the framework named by ``announce`` reads; ``none`` needs none."""
    way = _WAYS.get(announce)
    if way is None:
        raise AnnounceUnknown(
            f"This node does not know how to announce a gang as '{announce}'.",
            way_out=f"Known ways: {', '.join(sorted(_WAYS))}. Update the node, or choose another engine.",
        )
    return way(place)


def gang_helpers(announce: str, place: RankPlace) -> list[Helper]:
    """What runs on this node beside its ranks; ``place`` is that of any of them."""
    if announce != "mxnet":
        return []
    shared = _dmlc(place)
    server = Helper("server", _MXNET_HELPER, shared | {"DMLC_ROLE": "server"})
    if place.node_rank > 0:
        return [server]
    return [Helper("scheduler", _MXNET_HELPER, shared | {"DMLC_ROLE": "scheduler"}), server]


def thread_variables(threads: int) -> dict[str, str]:
    """What keeps the ranks of a node from fighting for its cores."""
    return {"OMP_NUM_THREADS": str(max(1, threads))}


def _torch(place: RankPlace) -> dict[str, str]:
    """As torchrun sets them (PyTorch documentation, "Environment Variables" of elastic run)."""
    world, local_world = str(place.world_size), str(place.local_world_size)
    return {
        "RANK": str(place.rank),
        "LOCAL_RANK": str(place.local_rank),
        "WORLD_SIZE": world,
        "LOCAL_WORLD_SIZE": local_world,
        "GROUP_RANK": str(place.node_rank),
        "GROUP_WORLD_SIZE": str(place.node_count),
        "NODE_RANK": str(place.node_rank),
        "ROLE_NAME": "default",
        "ROLE_RANK": str(place.rank),
        "ROLE_WORLD_SIZE": world,
        "MASTER_ADDR": place.master_addr,
        "MASTER_PORT": str(place.master_port),
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
    }


def _tensorflow(place: RankPlace) -> dict[str, str]:
    """TF_CONFIG as MultiWorkerMirroredStrategy reads it: every rank a worker, worker 0 the chief."""
    config = {
        "cluster": {"worker": list(place.peers)},
        "task": {"type": "worker", "index": place.rank},
    }
    return {"TF_CONFIG": json.dumps(config)}


def _jax(place: RankPlace) -> dict[str, str]:
    """What ``jax.distributed.initialize()`` finds without arguments.

    It has no variables of its own for the number and the rank of a process, but reads those of
    Open MPI; the address in them is not looked at when the coordinator's is given.
    """
    coordinator = f"{place.master_addr}:{place.master_port}"
    found = {
        "JAX_COORDINATOR_ADDRESS": coordinator,
        "JAX_NUM_PROCESSES": str(place.world_size),
        "JAX_PROCESS_ID": str(place.rank),
        "OMPI_MCA_orte_hnp_uri": f"0.0;tcp://{coordinator}",
        "OMPI_COMM_WORLD_SIZE": str(place.world_size),
        "OMPI_COMM_WORLD_RANK": str(place.rank),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(place.local_rank),
    }
    if place.master_addr == _LOOPBACK:  # else it would listen on every interface
        found["JAX_COORDINATOR_BIND_ADDRESS"] = coordinator
    return found


def _keras_jax(place: RankPlace) -> dict[str, str]:
    """For ``keras.distribution.initialize()``; the first address is the coordinator's."""
    coordinator = f"{place.master_addr}:{place.master_port}"
    return _jax(place) | {
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": ",".join([coordinator, *place.peers[1:]]),
        "KERAS_DISTRIBUTION_NUM_PROCESSES": str(place.world_size),
        "KERAS_DISTRIBUTION_PROCESS_ID": str(place.rank),
    }


def _mxnet(place: RankPlace) -> dict[str, str]:
    """ps-lite counts the workers of a node by their ports, so that rank is rank."""
    port = place.peers[place.rank].rpartition(":")[2]
    return _dmlc(place) | {"DMLC_ROLE": "worker", "PORT": port}


def _dmlc(place: RankPlace) -> dict[str, str]:
    """ps-lite's variables: the scheduler listens at the root; one server on each node."""
    return {
        "DMLC_PS_ROOT_URI": place.master_addr,
        "DMLC_PS_ROOT_PORT": str(place.master_port),
        "DMLC_NUM_SERVER": str(place.node_count),
        "DMLC_NUM_WORKER": str(place.world_size),
        "DMLC_NODE_HOST": place.node_addr,
    }


def _nothing(_place: RankPlace) -> dict[str, str]:
    return {}


_MXNET_HELPER = "import mxnet"  # serves the role that it is told, then ends
_WAYS: dict[str, Callable[[RankPlace], dict[str, str]]] = {
    "torch": _torch,
    "tensorflow": _tensorflow,
    "jax": _jax,
    "keras-jax": _keras_jax,
    "mxnet": _mxnet,
    "none": _nothing,
}
