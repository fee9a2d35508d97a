"""Gangs of real processes in real sandboxes: how they start, end, and are ended."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tesra.node.devices import cpu_slots
from tesra.node.entry import IN_RANK, EntryMissing
from tesra.node.environments import Environment, EnvironmentBuilder
from tesra.node.ranks import Gang, Place
from tesra.node.runtime import runtime_folder
from tesra.node.sandbox import RANK_UID, Sandbox
from tesra.node.workspace import TESRA_RANK, AttemptFolders, hand_over, output_files, prepare
from tesra.wire.site import EngineSpec, RunSpec

ENGINE = EngineSpec(
    name="bare",
    version="1",
    requirements=[],
    python=">=3.11",
    announce="torch",
    env={"ENGINE": "yes"},
)
PEERS = tuple(f"127.0.0.1:{29501 + rank}" for rank in range(2))
BOTH = pytest.mark.parametrize("sandboxed", [True, False], ids=["sandboxed", "bare"])
Start = Callable[..., Awaitable[Gang]]


@pytest.fixture(scope="module")
async def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("environment")
    (folder / "project").mkdir()
    return await EnvironmentBuilder(folder / "cache", gpu=False).ensure(
        ENGINE, [], folder / "project", print
    )


@pytest.fixture
def folders(tmp_path: Path) -> AttemptFolders:
    return prepare(tmp_path / "attempts", "att_1", "out")


@pytest.fixture
async def start(environment: Environment, folders: AttemptFolders) -> AsyncIterator[Start]:
    gangs: list[Gang] = []

    async def begin(
        script: str,
        *,
        devices: int = 2,
        sandboxed: bool = True,
        variables: Callable[[int], dict[str, str]] = lambda _rank: {},
        **changes: Any,
    ) -> Gang:
        (folders.work / "train.py").write_text(script)
        hand_over(folders)
        gang = Gang(
            "run_1",
            spec(**changes),
            place=Place(0, devices, 0, 1, "127.0.0.1", 29500, PEERS),
            devices=cpu_slots(devices),
            environment=environment,
            folders=folders,
            sandbox=Sandbox(enabled=sandboxed),
            runtime=runtime_folder(folders.root.parent.parent / "runtime"),
            variables=variables,
        )
        gangs.append(gang)
        await gang.start()
        return gang

    yield begin
    for gang in gangs:
        await gang.stop(0)


def spec(**changes: Any) -> RunSpec:
    fields: dict[str, Any] = {
        "owner": "user",
        "project": "prj",
        "snapshot": "snp",
        "snapshot_root": "",
        "packages": [],
        "engine": ENGINE,
        "entry": "train.py",
        "args": [],
        "output": "out",
        "launch": "gang",
        "params": {},
        "env": {},
        "secrets": {},
    }
    return RunSpec(**(fields | changes))


async def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


def sleepers(mark: str) -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline"])
    return [process for process in found if process.info["cmdline"] == ["sleep", mark]]


@BOTH
async def test_every_rank_learns_its_place_and_nothing_of_ours(
    start: Start, folders: AttemptFolders, sandboxed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESRA_TOKEN", "secret of the node")
    script = "import os, json, sys; print(json.dumps([dict(os.environ), sys.argv, sys.path[0]]))"
    gang = await start(
        script,
        sandboxed=sandboxed,
        params={"lr": 0.1, "nesterov": True},
        args=["--deep", "a b"],
        env={"OWN": "1", "RANK": "7", "OMP_NUM_THREADS": "1"},
        secrets={"KEY": "k"},
    )
    exits = await gang.wait()
    assert sorted((ended.rank, ended.exit_code) for ended in exits) == [(0, 0), (1, 0)]
    for rank in gang.ranks:
        environ, argv, first = json.loads(folders.log_of(rank).read_text())
        assert argv == ["train.py", "--lr", "0.1", "--nesterov", "true", "--deep", "a b"]
        assert first == str(folders.work)
        assert environ["RANK"] == environ["LOCAL_RANK"] == str(rank)
        assert environ["WORLD_SIZE"] == environ["LOCAL_WORLD_SIZE"] == "2"
        assert (environ["OWN"], environ["KEY"], environ["ENGINE"]) == ("1", "k", "yes")
        assert (environ["OMP_NUM_THREADS"], environ["TESRA_PARAM_LR"]) == ("1", "0.1")
        assert "TESRA_TOKEN" not in environ
        assert environ["TESRA_OUTPUT_DIR"] == str(folders.output_path)


async def test_what_a_rank_is_told_gives_way_to_what_its_user_says(
    start: Start, folders: AttemptFolders
) -> None:
    script = "import os; print(os.environ['MLFLOW_TRACKING_URI'], os.environ['OWN'])"
    gang = await start(
        script,
        env={"OWN": "user's"},
        variables=lambda rank: {"MLFLOW_TRACKING_URI": f"http://node/{rank}", "OWN": "node's"},
    )
    await gang.wait()
    for rank in (0, 1):
        assert folders.log_of(rank).read_text() == f"http://node/{rank} user's\n"


async def test_launch_single_is_one_process_without_a_gangs_variables(
    start: Start, folders: AttemptFolders
) -> None:
    gang = await start(
        "import os; print('RANK' in os.environ, os.environ['TESRA_RUN'])", launch="single"
    )
    assert gang.ranks == [0]
    assert [ended.exit_code for ended in await gang.wait()] == [0]
    assert folders.log_of(0).read_text() == "False run_1\n"


async def test_ranks_share_workspace_output_and_temporary_folder(
    start: Start, folders: AttemptFolders
) -> None:
    script = (
        "import os, pathlib, time\n"
        "rank = os.environ['RANK']\n"
        "pathlib.Path('/tmp/here-' + rank).touch()\n"
        "while not pathlib.Path(f'/tmp/here-{1 - int(rank)}').exists(): time.sleep(0.01)\n"
        "pathlib.Path('out/model-' + rank).write_text('weights')\n"
        "pathlib.Path(os.environ['TESRA_CHECKPOINT_DIR'], rank).touch()\n"
    )
    gang = await start(script)
    assert all(ended.exit_code == 0 for ended in await gang.wait())
    await gang.stop(0)
    assert [file.path for file in output_files(folders).files] == ["model-0", "model-1"]
    assert len(list(folders.checkpoints.iterdir())) == 2


async def test_script_reads_its_parameters_from_the_file(
    start: Start, folders: AttemptFolders
) -> None:
    gang = await start(
        "import os; print(open(os.environ['TESRA_PARAMS_FILE']).read())", devices=1, params={"a": 1}
    )
    await gang.wait()
    assert json.loads(folders.log_of(0).read_text()) == {"a": 1}


@BOTH
async def test_script_imports_tesra_with_nothing_installed(
    start: Start, folders: AttemptFolders, sandboxed: bool
) -> None:
    script = (
        "import os, sys, tesra\n"
        "tesra.log({'loss': tesra.params.lr, 'odd': float('nan')}, step=tesra.step())\n"
        "(tesra.checkpoint_dir / os.environ['RANK']).touch()\n"
        "(tesra.output_dir / os.environ['RANK']).touch()\n"
        "print(sys.argv[1:], tesra.__file__.startswith(os.environ['PYTHONPATH']))\n"
    )
    gang = await start(
        script, sandboxed=sandboxed, params={"lr": 0.5}, param_format="--{name}={value}"
    )
    exits = await gang.wait()
    for rank in gang.ranks:
        assert folders.log_of(rank).read_text() == "['--lr=0.5'] True\n"
        [[_at, step, values]] = json.loads(folders.metrics_of(rank).read_text())
        assert (step, values["loss"], str(values["odd"])) == (1, 0.5, "nan")
    assert all(ended.exit_code == 0 for ended in exits)
    assert {path.name for path in folders.checkpoints.iterdir()} == {"0", "1"}
    assert {path.name for path in folders.output_path.iterdir()} == {"0", "1"}


async def test_parameters_may_come_as_a_config_file_or_not_at_all(
    start: Start, folders: AttemptFolders
) -> None:
    script = "import sys, json; print(json.load(open(sys.argv[2])) if sys.argv[1:] else 'none')"
    for form, said in (("file", "{'lr': 0.5}\n"), ("none", "none\n")):
        gang = await start(script, devices=1, params={"lr": 0.5}, param_format=form)
        await gang.wait()
        assert folders.log_of(0).read_text().endswith(said)


async def test_logs_of_others_and_the_nodes_files_are_out_of_reach(
    start: Start, folders: AttemptFolders
) -> None:
    script = f"import os; print(os.path.exists({str(folders.logs)!r}), os.getuid()); open('/dev/stdout', 'a').write('x')"
    gang = await start(script, devices=1)
    await gang.wait()
    assert folders.log_of(0).read_text() == f"False {RANK_UID}\nx"


@BOTH
async def test_first_failure_is_told_at_once_and_the_rest_is_stopped(
    start: Start, sandboxed: bool
) -> None:
    script = "import os, sys, time\nif os.environ['RANK'] == '1': sys.exit(3)\ntime.sleep(600)"
    gang = await start(script, sandboxed=sandboxed)
    exits = await gang.wait()
    assert [(ended.rank, ended.exit_code) for ended in exits] == [(1, 3)]
    assert exits[0].words == "Rank 1 ended with exit code 3"
    began = time.monotonic()
    all_exits = await gang.stop(5)
    assert time.monotonic() - began < 5
    assert (all_exits[1].rank, all_exits[1].exit_code) == (0, 128 + signal.SIGTERM)


@pytest.mark.parametrize(("ending", "code"), [("1 / 0", 1), ("sys.exit(3)", 3)])
async def test_rank_that_failed_may_not_wait_for_the_others_while_it_ends(
    start: Start, ending: str, code: int
) -> None:
    """As JAX does, in what it registers with atexit."""
    script = (
        "import atexit, os, sys, time\natexit.register(time.sleep, 600)\n"
        f"if os.environ['RANK'] == '1': {ending}\ntime.sleep(600)"
    )
    gang = await start(script)
    exits = await asyncio.wait_for(gang.wait(), 5)
    assert [(ended.rank, ended.exit_code) for ended in exits] == [(1, code)]


async def test_ranks_children_and_succeeding_ranks_are_left_alone(
    start: Start, folders: AttemptFolders
) -> None:
    script = (
        "import atexit, os, subprocess, sys, time\natexit.register(time.sleep, 3)\n"
        "child = 'import os, sys; print(os.environ.get(\"PYTHONPATH\"), sys.exit.__name__)'\n"
        "subprocess.run([sys.executable, '-c', child])\n"
        "try: sys.exit(0)\nexcept SystemExit: pass\n"
    )
    gang = await start(script)
    assert [ended.exit_code for ended in await gang.wait()] == [0, 0]
    path, name = folders.log_of(0).read_text().split()
    assert str(IN_RANK) not in path
    assert name == "exit"


@BOTH
async def test_rank_killed_by_the_kernel_says_so(start: Start, sandboxed: bool) -> None:
    gang = await start("import os; os.kill(os.getpid(), 9)", devices=1, sandboxed=sandboxed)
    ended = (await gang.wait())[0]
    assert (ended.exit_code, ended.signal) == (137, 9)
    assert ended.words == "Rank 0 was killed by signal 9 SIGKILL (out of memory?)"


@BOTH
async def test_script_that_ignores_sigterm_is_killed_after_the_grace(
    start: Start, folders: AttemptFolders, sandboxed: bool
) -> None:
    gang = await start(
        "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('deaf')\ntime.sleep(600)",
        devices=1,
        sandboxed=sandboxed,
    )
    await until(lambda: "deaf" in folders.log_of(0).read_text())
    began = time.monotonic()
    exits = await gang.stop(0.5)
    assert 0.5 <= time.monotonic() - began < 5
    assert exits[0].signal == signal.SIGKILL


@BOTH
async def test_script_may_save_its_work_within_the_grace(
    start: Start, folders: AttemptFolders, sandboxed: bool
) -> None:
    script = (
        "import signal, sys, time\n"
        "def leave(*_):\n    open('out/saved', 'w').write('x'); sys.exit(0)\n"
        "signal.signal(15, leave)\nprint('ready')\ntime.sleep(600)"
    )
    gang = await start(script, devices=1, sandboxed=sandboxed)
    await until(lambda: "ready" in folders.log_of(0).read_text())
    assert [ended.exit_code for ended in await gang.stop(10)] == [0]
    assert (folders.output_path / "saved").exists()


@BOTH
async def test_children_that_outlive_the_script_are_killed(start: Start, sandboxed: bool) -> None:
    """A daemon: forked twice, in a session of its own, deaf to SIGTERM and SIGHUP."""
    mark = f"7{os.getpid()}{int(sandboxed)}"
    script = (
        "import os, signal\n"
        "for number in (1, 15): signal.signal(number, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0: os.execvp('sleep', ['sleep', MARK])\n"
        "    os._exit(0)\n"
    ).replace("MARK", repr(mark))
    gang = await start(script, devices=1, sandboxed=sandboxed)
    assert [ended.exit_code for ended in await gang.wait()] == [0]
    await until(lambda: len(sleepers(mark)) == 1)
    await gang.stop(0)
    assert sleepers(mark) == []


async def test_binary_and_a_line_of_ten_megabytes_are_kept_as_they_are(
    start: Start, folders: AttemptFolders
) -> None:
    script = "import sys; sys.stdout.buffer.write(bytes(range(256)) + b'x' * 10_000_000 + b'\\n'); sys.stderr.write('end')"
    gang = await start(script, devices=1)
    assert [ended.exit_code for ended in await gang.wait()] == [0]
    content = folders.log_of(0).read_bytes()
    assert sorted(content[:256]) == list(range(256))
    assert len(content) == 256 + 10_000_000 + 1 + 3


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("pkg.module", "module a"),
        ("pkg.module:call", "call a"),
        ("pkg.module:Trainer.train", "train a"),
        ("pkg.module:Trainer.of_class", "of Trainer a"),
        (["python", "-c", "import sys; print('list', *sys.argv[1:])"], "list a"),
    ],
)
async def test_every_kind_of_entry_runs(
    start: Start, folders: AttemptFolders, entry: str | list[str], said: str
) -> None:
    (folders.work / "pkg").mkdir()
    (folders.work / "pkg" / "module.py").write_text(
        "import sys\n"
        "def call(): print('call', *sys.argv[1:])\n"
        "class Trainer:\n"
        "    def train(self): print('train', *sys.argv[1:])\n"
        "    @classmethod\n"
        "    def of_class(cls): print('of', cls.__name__, *sys.argv[1:])\n"
        "if __name__ == '__main__': print('module', *sys.argv[1:])\n"
    )
    gang = await start("", devices=1, entry=entry, args=["a"])
    assert [ended.exit_code for ended in await gang.wait()] == [0], folders.log_of(0).read_text()
    assert folders.log_of(0).read_text() == f"{said}\n"


async def test_program_that_does_not_exist_is_refused_before_anything_runs(start: Start) -> None:
    with pytest.raises(EntryMissing, match="'trian' cannot be started: No such file"):
        await start("", entry=["trian", "--fast"])


async def test_users_preload_never_reaches_the_nodes_own_processes(
    start: Start, folders: AttemptFolders
) -> None:
    """Were it passed to bubblewrap, the loader would complain there, and could run code as root."""
    gang = await start("print('ran')", devices=1, env={"LD_PRELOAD": "/nowhere/evil.so"})
    await gang.wait()
    assert "evil.so" in folders.log_of(0).read_text()
    assert (folders.logs / "sandbox.log").read_text() == ""


HELPERS = "import os, sys, time\nprint('I am', os.environ['DMLC_ROLE'], flush=True)\n"


async def helped(start: Start, folders: AttemptFolders, helper: str, script: str) -> Gang:
    """MXNet's way of a gang, with a module of the project in MXNet's place."""
    (folders.work / "mxnet.py").write_text(HELPERS + helper)
    return await start(script, engine=ENGINE.model_copy(update={"announce": "mxnet"}))


async def test_helpers_run_beside_the_ranks_and_end_with_them(
    start: Start, folders: AttemptFolders
) -> None:
    mark = f"6{os.getpid()}"
    own = folders.log_of(TESRA_RANK)
    gang = await helped(
        start,
        folders,
        f"os.execvp('sleep', ['sleep', '{mark}'])",
        "import os, time\nprint(os.environ['DMLC_ROLE'])\n"
        "while not os.path.exists('out/go'): time.sleep(0.02)\n",
    )
    assert gang.ranks == [0, 1]
    await until(lambda: len(sleepers(mark)) == 2)
    assert sorted(own.read_text().splitlines()) == ["I am scheduler", "I am server"]
    (folders.output_path / "go").touch()
    assert [ended.exit_code for ended in await gang.wait()] == [0, 0]
    await gang.stop(0)
    assert sleepers(mark) == []
    assert folders.log_of(0).read_text() == "worker\n"


async def test_helper_that_fails_ends_the_gang_and_is_named(
    start: Start, folders: AttemptFolders
) -> None:
    gang = await helped(
        start,
        folders,
        "sys.exit(7 if os.environ['DMLC_ROLE'] == 'server' else 0)",
        "import time; time.sleep(600)",
    )
    exits = await asyncio.wait_for(gang.wait(), 10)
    assert exits[0].words == "The engine's server ended with exit code 7"
    assert exits[0].rank == TESRA_RANK


async def test_helpers_serve_while_ranks_save_within_the_grace(
    start: Start, folders: AttemptFolders
) -> None:
    mark = f"5{os.getpid()}"
    gang = await helped(
        start,
        folders,
        f"os.execvp('sleep', ['sleep', '{mark}'])",
        "import signal, sys, time\n"
        "def leave(*_):\n    time.sleep(1); sys.exit(0)\n"
        "signal.signal(15, leave)\nprint('ready')\ntime.sleep(600)",
    )
    await until(lambda: len(sleepers(mark)) == 2)
    await until(lambda: all("ready" in folders.log_of(rank).read_text() for rank in (0, 1)))
    stopping = asyncio.create_task(gang.stop(10))
    await asyncio.sleep(0.5)
    assert len(sleepers(mark)) == 2
    assert [ended.exit_code for ended in await stopping] == [0, 0]
    assert sleepers(mark) == []


async def test_launcher_that_is_killed_counts_as_all_ranks_killed(start: Start) -> None:
    gang = await start("import time; time.sleep(600)")
    launcher = next(
        process
        for process in psutil.Process(gang.pid).children(recursive=True)
        if any("rank_launcher" in part for part in process.cmdline())
        and "bwrap" not in process.name()
    )
    launcher.kill()
    exits = await asyncio.wait_for(gang.wait(), 10)
    assert [ended.exit_code for ended in exits] == [137, 137]


@BOTH
async def test_ranks_die_with_the_node_that_is_killed(
    tmp_path: Path, environment: Environment, sandboxed: bool
) -> None:
    """An agent of its own is killed with SIGKILL while its rank has a daemon of its own."""
    mark = f"8{os.getpid()}{int(sandboxed)}"
    agent = subprocess.Popen(
        [sys.executable, __file__, str(tmp_path), mark, str(int(sandboxed)), str(environment.root)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    try:
        await until(lambda: len(sleepers(mark)) == 2, 20)
    finally:
        agent.kill()
        agent.wait()
    await until(lambda: not sleepers(mark))


async def _agent(folder: Path, mark: str, sandboxed: bool, root: Path) -> None:
    folders = prepare(folder, "att_2", "out")
    hand_over(folders)
    script = "setsid sleep MARK & exec sleep MARK".replace("MARK", mark)
    base = Path(sys.base_prefix)
    bases = () if base.is_relative_to("/usr") else (base,)
    gang = Gang(
        "run_2",
        spec(entry=["/bin/sh", "-c", script]),
        place=Place(0, 1, 0, 1, "127.0.0.1", 29500),
        devices=cpu_slots(1),
        environment=Environment(root, root / "bin" / "python", "", "", bases),
        folders=folders,
        sandbox=Sandbox(enabled=sandboxed),
    )
    await gang.start()
    await gang.wait()


if __name__ == "__main__":
    asyncio.run(_agent(Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "1", Path(sys.argv[4])))
