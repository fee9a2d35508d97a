"""How a gang is told to its framework: pure functions from a rank's place to variables.

Each way is one entry of ``_WAYS``; an engine names the one it wants (``EngineSpec.announce``).
"""

from collections.abc import Callable
from dataclasses import dataclass

from tesra.kit.errors import Invalid


class AnnounceUnknown(Invalid):
    """This node does not know how to announce a gang to this engine."""


@dataclass(frozen=True, slots=True)
class RankPlace:
    """One rank among all (``rank`` of ``world_size``) and on its node (``local_rank``)."""

    rank: int
    local_rank: int
    world_size: int
    local_world_size: int
    node_rank: int
    node_count: int
    master_addr: str
    master_port: int


def gang_variables(announce: str, place: RankPlace) -> dict[str, str]:
    """The variables that the framework named by ``announce`` reads; ``none`` needs none."""
    way = _WAYS.get(announce)
    if way is None:
        raise AnnounceUnknown(
            f"This node does not know how to announce a gang as '{announce}'.",
            way_out=f"Known ways: {', '.join(sorted(_WAYS))}. Update the node, or choose another engine.",
        )
    return way(place)


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


def _nothing(_place: RankPlace) -> dict[str, str]:
    return {}


_WAYS: dict[str, Callable[[RankPlace], dict[str, str]]] = {"torch": _torch, "none": _nothing}
