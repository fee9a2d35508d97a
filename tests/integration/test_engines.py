"""Every engine for real: a rank that fails in a gang. What they train is in ``e2e/test_examples.py``.

Environments are kept in TESRA_CACHE between runs; a cold cache works too and takes minutes.
"""

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tesra.kit.settings import default_cache
from tesra.node.attempts import FAILED_GRACE_S
from tesra.node.devices import cpu_slots
from tesra.node.environments import Environment, EnvironmentBuilder
from tesra.node.ports import Ports
from tesra.node.ranks import Gang, Place
from tesra.node.sandbox import Sandbox
from tesra.node.workspace import TESRA_RANK, AttemptFolders, hand_over, prepare
from tesra.training.engines.catalog import read_engines
from tesra.wire.site import RunSpec

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

END_S = 5.0

MEET = {
    "pytorch": "import torch.distributed as d\nd.init_process_group('gloo')\nd.barrier()\nrank = d.get_rank()\n",
    "tensorflow": (
        "import json, os, tensorflow as tf\n"
        "s = tf.distribute.MultiWorkerMirroredStrategy()\n"
        "rank = json.loads(os.environ['TF_CONFIG'])['task']['index']\n"
    ),
    "keras": (
        "import os, keras\nkeras.distribution.initialize()\n"
        "import jax\nfrom jax.experimental import multihost_utils\nmultihost_utils.sync_global_devices('x')\n"
        "rank = jax.process_index()\n"
    ),
    "mxnet": "import mxnet as mx\nk = mx.kv.create('dist_sync')\nrank = k.rank\nk._barrier()\n",
    "jax": (
        "import jax\nfrom jax.experimental import multihost_utils\n"
        "jax.distributed.initialize()\n"
        "multihost_utils.sync_global_devices('x')\nrank = jax.process_index()\n"
    ),
}
FAIL = {
    "error": "raise ValueError('the loss is nan')",
    "exit": "sys.exit(3)",
    "kill": "os.kill(os.getpid(), 9)",
}
# These may wait for the other ranks where no code of Python's runs any more, and are ended then.
ENDS_WITH = {"mxnet": {1}, "tensorflow": {1, 3}}
KILLED = ("pytorch", "mxnet")  # a kill is the same to all, but for those with helpers
WAYS = [(engine, way) for engine in MEET for way in FAIL if way != "kill" or engine in KILLED]


@dataclass
class Started:
    """A gang, and where it left its things."""

    gang: Gang
    folders: AttemptFolders

    def log(self, rank: int) -> str:
        path = self.folders.log_of(rank)
        return path.read_text(errors="replace") if path.exists() else ""

    def logs(self) -> str:
        ranks = [TESRA_RANK, *self.gang.ranks]
        return "\n".join(f"--- rank {rank}\n{self.log(rank)}" for rank in ranks)


Start = Callable[..., Awaitable[Started]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    started: list[Started] = []

    async def begin(project: Path, engine: str, backend: str | None, devices: int) -> Started:
        spec = RunSpec(
            owner="user",
            project="prj",
            snapshot="snp",
            engine=read_engines().resolve(engine, backend),
            packages=[],
            entry="train.py",
            args=[],
            output="out",
            launch="gang",
            params={},
            env={},
            secrets={},
        )
        folders = prepare(tmp_path / "attempts", "att_1", "out")
        shutil.copytree(project, folders.work, dirs_exist_ok=True)
        environment = await built(spec, folders.work)
        hand_over(folders)
        master, *ports = Ports().take(1 + devices)
        peers = tuple(f"127.0.0.1:{port}" for port in ports)
        gang = Gang(
            "run_1",
            spec,
            place=Place(0, devices, 0, 1, "127.0.0.1", master, peers),
            devices=cpu_slots(2)[:devices],
            environment=environment,
            folders=folders,
            sandbox=Sandbox(),
        )
        started.append(Started(gang, folders))
        await gang.start()
        return started[-1]

    yield begin
    for each in started:
        await each.gang.stop(0)


async def built(spec: RunSpec, project: Path) -> Environment:
    builder = EnvironmentBuilder(default_cache(), gpu=False)
    return await builder.ensure(spec.engine, spec.packages, project, print)


@pytest.mark.parametrize(("engine", "way"), WAYS)
async def test_rank_that_fails_ends_its_gang_and_is_named(
    start: Start, tmp_path: Path, engine: str, way: str
) -> None:
    """The others wait in a loop that heeds no signal, as a collective call does."""
    script = (
        "import os, signal, sys, time\n"
        f"{MEET[engine]}"
        "print('met', flush=True)\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"if rank == 1:\n    time.sleep(0.5)\n    print('failing at', time.time(), flush=True)\n    {FAIL[way]}\n"
        "time.sleep(600)\n"
    )
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "train.py").write_text(script)
    run = await start(tmp_path / "project", engine, None, 2)
    exits = await asyncio.wait_for(run.gang.wait(), 120)
    await run.gang.stop(FAILED_GRACE_S)
    found = re.search(r"failing at (\S+)", run.log(exits[0].rank))
    assert found is not None, run.logs()
    assert time.time() - float(found[1]) < END_S, run.logs()
    codes = {"error": {1}, "exit": ENDS_WITH.get(engine, {3}), "kill": {137}}
    assert exits[0].exit_code in codes[way], run.logs()
