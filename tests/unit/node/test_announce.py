"""How a gang is told to its framework."""

import pytest

from tesra.node.announce import AnnounceUnknown, RankPlace, gang_variables, thread_variables

PLACE = RankPlace(
    rank=3,
    local_rank=1,
    world_size=4,
    local_world_size=2,
    node_rank=1,
    node_count=2,
    master_addr="10.0.0.1",
    master_port=29500,
)


def test_torch_gets_what_torchrun_would_set() -> None:
    variables = gang_variables("torch", PLACE)
    assert (variables["RANK"], variables["LOCAL_RANK"]) == ("3", "1")
    assert (variables["WORLD_SIZE"], variables["LOCAL_WORLD_SIZE"]) == ("4", "2")
    assert (variables["GROUP_RANK"], variables["NODE_RANK"]) == ("1", "1")
    assert (variables["MASTER_ADDR"], variables["MASTER_PORT"]) == ("10.0.0.1", "29500")


def test_unknown_way_is_a_clear_error() -> None:
    with pytest.raises(AnnounceUnknown, match="'smoke'"):
        gang_variables("smoke", PLACE)


def test_a_rank_always_has_a_thread() -> None:
    assert thread_variables(0) == {"OMP_NUM_THREADS": "1"}
