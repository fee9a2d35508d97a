"""How a gang is told to its framework."""

import json
from dataclasses import replace

import pytest

from tesra.node.announce import (
    AnnounceUnknown,
    RankPlace,
    gang_helpers,
    gang_variables,
    thread_variables,
)

PLACE = RankPlace(
    rank=3,
    local_rank=1,
    world_size=4,
    local_world_size=2,
    node_rank=1,
    node_count=2,
    master_addr="10.0.0.1",
    master_port=29500,
    peers=("10.0.0.1:20001", "10.0.0.1:20002", "10.0.0.2:20001", "10.0.0.2:20002"),
    node_addr="10.0.0.2",
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


def test_tensorflow_gets_every_worker_and_its_own_number() -> None:
    config = json.loads(gang_variables("tensorflow", PLACE)["TF_CONFIG"])
    assert config["cluster"] == {"worker": list(PLACE.peers)}
    assert config["task"] == {"type": "worker", "index": 3}


def test_jax_gets_the_coordinator_and_its_number() -> None:
    variables = gang_variables("jax", PLACE)
    assert variables["JAX_COORDINATOR_ADDRESS"] == "10.0.0.1:29500"
    assert (variables["OMPI_COMM_WORLD_RANK"], variables["OMPI_COMM_WORLD_SIZE"]) == ("3", "4")
    assert variables["OMPI_COMM_WORLD_LOCAL_RANK"] == "1"
    assert "JAX_COORDINATOR_BIND_ADDRESS" not in variables
    alone = gang_variables("jax", replace(PLACE, master_addr="127.0.0.1"))
    assert alone["JAX_COORDINATOR_BIND_ADDRESS"] == "127.0.0.1:29500"


def test_keras_on_jax_meets_at_the_coordinator() -> None:
    variables = gang_variables("keras-jax", PLACE)
    addresses = variables["KERAS_DISTRIBUTION_JOB_ADDRESSES"].split(",")
    assert addresses == ["10.0.0.1:29500", *PLACE.peers[1:]]
    assert variables["KERAS_DISTRIBUTION_NUM_PROCESSES"] == "4"
    assert variables["KERAS_DISTRIBUTION_PROCESS_ID"] == "3"


def test_mxnet_ranks_are_workers_of_one_scheduler_and_a_server_on_each_node() -> None:
    variables = gang_variables("mxnet", PLACE)
    assert (variables["DMLC_ROLE"], variables["DMLC_NODE_HOST"]) == ("worker", "10.0.0.2")
    assert variables["PORT"] == "20002"
    assert (variables["DMLC_NUM_WORKER"], variables["DMLC_NUM_SERVER"]) == ("4", "2")
    first = gang_helpers("mxnet", replace(PLACE, node_rank=0))
    assert [helper.name for helper in first] == ["scheduler", "server"]
    assert [helper.environ["DMLC_ROLE"] for helper in first] == ["scheduler", "server"]
    assert [helper.name for helper in gang_helpers("mxnet", PLACE)] == ["server"]
    assert all(helper.environ["DMLC_PS_ROOT_PORT"] == "29500" for helper in first)


def test_other_engines_have_no_helpers() -> None:
    assert gang_helpers("torch", PLACE) == []
