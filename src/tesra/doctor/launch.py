"""Whether a run is one process for each device or one for all, from what the code uses."""

import ast
import re
from collections.abc import Iterator

from tesra.doctor.project import Code
from tesra.doctor.report import Evidence, LaunchProposal
from tesra.doctor.source import Call, Source
from tesra.kit.saying import Said, said

_GROUPS = (
    (r"torch\.distributed\.(init_process_group|init_device_mesh)", said("forms a torch process group")),
    (r"(torch\.distributed|torch)\.(?:.*\.)?(DistributedDataParallel|FullyShardedDataParallel|fully_shard)",
     said("shares the model among processes")),
    (r"(lightning|pytorch_lightning)(\..*)?\.(Trainer|Fabric|LightningCLI)", said("uses Lightning")),
    (r"accelerate(\..*)?\.Accelerator", said("uses accelerate")),
    (r"transformers(\..*)?\.\w*Trainer|trl(\..*)?\.\w*Trainer", said("uses a Trainer of transformers")),
    (r"deepspeed\.(initialize|init_distributed)", said("uses DeepSpeed")),
    (r"horovod\..*\.init", said("uses Horovod")),
    (r"tensorflow\.distribute\.(experimental\.)?MultiWorkerMirroredStrategy",
     said("uses MultiWorkerMirroredStrategy")),
    (r"tensorflow\.distribute\.(experimental\.)?ParameterServerStrategy",
     said("uses ParameterServerStrategy")),
    (r"jax\.distributed\.initialize", said("calls jax.distributed.initialize")),
    (r"keras\.distribution\.(initialize|DataParallel|ModelParallel|set_distribution)",
     said("uses Keras' distribution")),
)  # fmt: skip
_WITHIN = (
    (r"torch\.nn\.(?:.*\.)?DataParallel", said("DataParallel uses all devices from one process")),
    (r"tensorflow\.distribute\.(experimental\.)?MirroredStrategy",
     said("MirroredStrategy uses all devices from one process")),
    (r"jax\.pmap", said("pmap uses all devices from one process")),
)  # fmt: skip
_SPAWNS = (
    r"torch\.multiprocessing\.(spawn|start_processes)|accelerate\.notebook_launcher"
    r"|torch\.distributed\.launcher\..*"
)
_VARIABLES = frozenset(
    {"LOCAL_RANK", "WORLD_SIZE", "RANK", "TF_CONFIG", "DMLC_ROLE", "DMLC_NUM_WORKER"}
)
_KVSTORE = re.compile(r"dist(_\w+)?|horovod|byteps")
_FEW = 3


def propose_launch(code: Code) -> LaunchProposal:
    """``gang`` when the code expects to be one of several processes, else ``single``."""
    own = next(_matching(code, ((_SPAWNS, said("starts its own processes")),)), None)
    if own is not None:
        return LaunchProposal("single", said(f"{own.place} {own.text}"), (own,))
    groups = [*_matching(code, _GROUPS), *_kvstores(code), *_variables(code)]
    if groups:
        first = groups[0]
        why = said(f"{first.place} {first.text}")
        return LaunchProposal("gang", why, tuple(groups[:_FEW]))
    within = list(_matching(code, _WITHIN))
    if within:
        first = within[0]
        why = said(f"{first.place} {first.text}")
        return LaunchProposal("single", why, tuple(within[:_FEW]))
    return LaunchProposal(
        "single", said("nothing in the code makes several processes work together")
    )


def _matching(code: Code, table: tuple[tuple[str, Said], ...]) -> Iterator[Evidence]:
    for pattern, words in table:
        known = re.compile(pattern)
        for source, call in code.calls():
            if known.fullmatch(call.name):
                yield Evidence(source.path, call.line, said(f"{words}: {call.last}()"))


def _kvstores(code: Code) -> Iterator[Evidence]:
    """MXNet: ``kvstore.create("dist_sync")``, ``kvstore="dist_sync"`` anywhere in a call."""
    for source, call in code.calls():
        if not _uses_mxnet(source):
            continue
        value = code.folder(source).text(_kvstore_argument(call))
        if value is not None and _KVSTORE.fullmatch(value):
            yield Evidence(source.path, call.line, said(f"uses the kvstore {value}"))


def _kvstore_argument(call: Call) -> ast.expr | None:
    if call.name.endswith("kvstore.create") or call.name == "mxnet.kv.create":
        return call.argument(0, "name")
    return call.argument(None, "kvstore")


def _uses_mxnet(source: Source) -> bool:
    return any(found.module.partition(".")[0] == "mxnet" for found in source.imports)


def _variables(code: Code) -> Iterator[Evidence]:
    for source in code.sources:
        for variable, line in source.variables_read:
            if variable in _VARIABLES:
                yield Evidence(source.path, line, said(f"reads {variable}"))
