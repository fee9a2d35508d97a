"""What each rank of this node is started with: pure but for looking up the entry.

A rank's environment is built from nothing: what stands here is all it gets.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tesra.node.announce import RankPlace, gang_helpers, gang_variables, thread_variables
from tesra.node.data_places import data_variables
from tesra.node.devices import FoundDevice
from tesra.node.entry import IN_RANK, Parameters, command_of, parameter_text, source_roots
from tesra.node.environments import Environment
from tesra.node.sandbox import SAFE_ENVIRON
from tesra.node.workspace import AttemptFolders
from tesra.wire.site import RunSpec

RANK_MARK = "TESRA_GANG_RANK"
RANK_RUNTIME = "TESRA_RANK_RUNTIME"


@dataclass(frozen=True, slots=True)
class Place:
    """Where this node stands in the gang. ``rank_start``: global rank of its first device.

    ``peers``: an address for each rank of the gang; ``node_addr``: this node's own.
    """

    rank_start: int
    world_size: int
    node_rank: int
    node_count: int
    master_addr: str
    master_port: int
    peers: tuple[str, ...] = ()
    node_addr: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class HelperCommand:
    """A process beside the ranks, by name, and all it is started with."""

    name: str
    argv: list[str]
    environ: dict[str, str]


@dataclass(frozen=True, slots=True)
class NodePlan:
    """All that is started on this node."""

    ranks: list["RankCommand"]
    helpers: list[HelperCommand]


@dataclass(frozen=True, slots=True)
class RankCommand:
    """One rank: its global number, and all it is started with."""

    rank: int
    argv: list[str]
    environ: dict[str, str]


def plan_ranks(  # noqa: PLR0913 - everything that a rank is told, from eight sources
    run: str,
    spec: RunSpec,
    *,
    place: Place,
    devices: Sequence[FoundDevice],
    environment: Environment,
    folders: AttemptFolders,
    tmp: Path,
    runtime: Path | None = None,
    variables: Callable[[int], dict[str, str]] = lambda _rank: {},
) -> NodePlan:
    """One command for each device of this node, or one for all with launch ``single``.

    ``variables`` of a rank may be replaced by the engine's and the user's.
    """
    parameters = Parameters(spec.params, spec.param_format, folders.params)
    argv = command_of(
        spec.entry, spec.args, parameters, python=environment.python, workspace=folders.work
    )
    single = spec.launch == "single"
    many = place.world_size > 1 and not single
    threads = sum(device.threads for device in devices)
    told = spec.engine.env | (spec.engine.gang_env if many else {})
    filled = _filled(told, environment, folders, threads if single else threads // len(devices))
    shared = _defaults(environment, folders, tmp) | filled | spec.env | spec.secrets
    shared |= _fixed(run, spec, folders) | _visible(devices) | data_variables(folders, spec)
    shared |= {RANK_RUNTIME: str(runtime)} if runtime is not None else {}
    added = [path for path in (runtime, IN_RANK) if path is not None]
    shared |= _paths(shared, environment, [*source_roots(folders.work), *added])
    if single:
        argv_environ = thread_variables(threads) | variables(0) | shared | _own(folders, 0)
        return NodePlan([RankCommand(0, argv, argv_environ)], [])
    ranks = [
        RankCommand(
            place.rank_start + index,
            argv,
            thread_variables(device.threads)
            | variables(place.rank_start + index)
            | shared
            | _own(folders, place.rank_start + index)
            | ({RANK_MARK: str(folders.failing_of(place.rank_start + index))} if many else {})
            | gang_variables(spec.engine.announce, _rank_place(place, index, len(devices))),
        )
        for index, device in enumerate(devices)
    ]
    helpers = [
        HelperCommand(
            helper.name, [str(environment.python), "-c", helper.code], shared | helper.environ
        )
        for helper in gang_helpers(spec.engine.announce, _rank_place(place, 0, len(devices)))
    ]
    return NodePlan(ranks, helpers)


def _filled(
    variables: dict[str, str], environment: Environment, folders: AttemptFolders, threads: int
) -> dict[str, str]:
    """An engine's variables, with what only the node knows filled in."""
    known = {
        "{home}": str(folders.home),
        "{packages}": str(environment.packages),
        "{threads}": str(max(1, threads)),
    }
    for name, value in known.items():
        variables = {key: text.replace(name, value) for key, text in variables.items()}
    return variables


def _defaults(environment: Environment, folders: AttemptFolders, tmp: Path) -> dict[str, str]:
    """What the user's own variables may replace."""
    return {
        "HOME": str(folders.home),
        "USER": "tesra",
        "LOGNAME": "tesra",
        "LANG": "C.UTF-8",
        "TMPDIR": str(tmp),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "VIRTUAL_ENV": str(environment.root),
    }


def _fixed(run: str, spec: RunSpec, folders: AttemptFolders) -> dict[str, str]:
    """Tesra's own: nothing replaces it."""
    return {
        "TESRA_RUN": run,
        "TESRA_OUTPUT_DIR": str(folders.output_path),
        "TESRA_CHECKPOINT_DIR": str(folders.checkpoints),
        "TESRA_PARAMS_FILE": str(folders.params),
        "TESRA_TUNING_FILE": str(folders.orders),
        "TESRA_STOPPING_FILE": str(folders.stopping),
        **{parameter_variable(name): parameter_text(value) for name, value in spec.params.items()},
    }


def _own(folders: AttemptFolders, rank: int) -> dict[str, str]:
    return {
        "TESRA_METRICS_FILE": str(folders.metrics_of(rank)),
        "TESRA_TUNING_STATUS": str(folders.status_of(rank)),
    }


def parameter_variable(name: str) -> str:
    """``lr`` → ``TESRA_PARAM_LR``, ``model.width`` → ``TESRA_PARAM_MODEL_WIDTH``."""
    return "TESRA_PARAM_" + re.sub(r"[^A-Za-z0-9]", "_", name).upper()


def _paths(
    shared: dict[str, str], environment: Environment, added: Sequence[Path]
) -> dict[str, str]:
    """The environment's programs come first; Tesra's own modules come after the user's."""
    paths = {"PATH": f"{environment.root}/bin:{shared.get('PATH', SAFE_ENVIRON['PATH'])}"}
    modules = [path for path in (shared.get("PYTHONPATH"), *map(str, added)) if path]
    return paths | ({"PYTHONPATH": ":".join(modules)} if modules else {})


def _visible(devices: Sequence[FoundDevice]) -> dict[str, str]:
    """Every rank sees all of its node's devices and picks by LOCAL_RANK, as under torchrun."""
    gpus = [device.uuid for device in devices if device.kind == "gpu"]
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}


def _rank_place(place: Place, local_rank: int, local_world_size: int) -> RankPlace:
    return RankPlace(
        rank=place.rank_start + local_rank,
        local_rank=local_rank,
        world_size=place.world_size,
        local_world_size=local_world_size,
        node_rank=place.node_rank,
        node_count=place.node_count,
        master_addr=place.master_addr,
        master_port=place.master_port,
        peers=place.peers,
        node_addr=place.node_addr,
    )
