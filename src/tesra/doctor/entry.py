"""Which file is meant to be started: what runs when started, trains, and is called so."""

import re
from pathlib import PurePosixPath

from tesra.doctor.project import Project
from tesra.doctor.report import Candidate, EntryProposal
from tesra.doctor.source import Call, Source
from tesra.kit.saying import Said, said

MARGIN = 2  # a first that is not ahead of the second by so much is no answer
_SHOWN = 12

_TRAINING = frozenset(
    {
        ".backward", ".fit", ".fit_generator", ".train_on_batch", ".train", ".manual_backward",
        ".minimize", ".apply_gradients", "jax.grad", "jax.value_and_grad",
        "tensorflow.GradientTape", "mxnet.autograd.record", "mxnet.gluon.Trainer", "flax.nnx.grad",
        "flax.nnx.value_and_grad", "torch.autograd.backward",
    }
)  # fmt: skip
_ENGINES = frozenset(
    {"torch", "tensorflow", "keras", "mxnet", "jax", "transformers", "lightning", "tf_keras"}
    | {"pytorch_lightning", "accelerate", "fastai", "flax"}
)
_NAMES = (
    (4, re.compile(r"train")),
    (
        3,
        re.compile(r"main|__main__|(train|finetune|fine_tune|run)_.*|.*_(train|finetune|training)"),
    ),
    (3, re.compile(r"finetune|fine_tune|training|trainer|pretrain")),
    (2, re.compile(r"run|app|start|experiment")),
    (
        -3,
        re.compile(
            r".*(eval|predict|infer|demo|plot|export|convert|preprocess|prepare|download|utils?"
            r"|helpers?|visuali[sz]e|benchmark|serve|check|generate).*"
        ),
    ),
)
_NEVER = frozenset({"setup.py", "conftest.py", "noxfile.py", "fabfile.py", "manage.py"})
_ASIDE = frozenset({"test", "tests", "docs", "doc", "examples", "benchmarks", "bench", "tools"})


def propose_entry(project: Project) -> EntryProposal:
    """All files that can be started, the likeliest first, and whether the first is clearly so."""
    imported = {
        path
        for source in project.sources.values()
        if _can_start(source) and _name_score(PurePosixPath(source.path).stem) >= 0
        for path in project.imported_by(source)
        if path != source.path
    }
    candidates = [
        candidate
        for source in project.sources.values()
        if (candidate := _judge(project, source, imported=source.path in imported)) is not None
    ]
    candidates.sort(key=lambda one: (-one.score, one.file.count("/"), one.file))
    if not candidates:
        return EntryProposal(None)
    best = candidates[0]
    equals = [one.entry for one in candidates if one.score > best.score - MARGIN]
    ambiguous = tuple(equals) if len(equals) > 1 else ()
    return EntryProposal(best.entry, ambiguous, tuple(candidates[:_SHOWN]))


def _judge(project: Project, source: Source, *, imported: bool) -> Candidate | None:
    path = PurePosixPath(source.path)
    name = path.parent.name if path.name == "__main__.py" else path.stem
    named = _name_score("__main__" if path.name == "__main__.py" else path.stem)
    can_start = _can_start(source)
    if path.name in _NEVER or name.startswith(("test_", ".")) or name.endswith("_test"):
        return None
    if not can_start and not (source.error and named > 0):
        return None
    score = named
    reasons: list[Said] = []
    if named > 0:
        reasons.append(said(f"is called {path.name}"))
    if source.main_guard:
        score += 2
        reasons.append(said(f'has `if __name__ == "__main__"` (line {source.main_guard})'))
    elif can_start:
        score += 1
        reasons.append(said("does its work when started"))
    training, why = _training(project, source)
    score += training
    reasons += [why] if why else []
    if source.error:
        reasons.append(said(f"can't be read as Python: {source.error}"))
    if imported:
        score -= 2
        reasons.append(said("is imported by other files"))
    score -= len(path.parts) - 1
    score -= 5 if _ASIDE & set(path.parts[:-1]) else 0
    return Candidate(_entry_of(project, source), source.path, score, tuple(reasons))


def _can_start(source: Source) -> bool:
    return bool(source.main_guard) or source.works_when_started


def _name_score(stem: str) -> int:
    return next((score for score, names in _NAMES if names.fullmatch(stem)), 0)


def _training(project: Project, source: Source) -> tuple[int, Said | None]:
    """Whether the file trains: itself, or by what it imports of the project."""
    for one in project.closure(source.path):
        call = next((c for c in one.calls if _is_training(one, c)), None)
        name = call.name.lstrip(".") if call is not None else ""
        if call is not None and one is source:
            return 4, said(f"trains: {name}() in line {call.line}")
        if call is not None:
            return 3, said(f"trains through {one.path}: {name}() in line {call.line}")
    return 0, None


def _is_training(source: Source, call: Call) -> bool:
    """``.fit`` is what other libraries have too: an engine must be near. ``model.train()`` sets a mode."""
    name = call.name
    if name == ".train" and not (call.node.args or call.node.keywords):
        return False
    if name not in _TRAINING and not name.endswith((".Trainer", ".Seq2SeqTrainer")):
        return False
    return any(found.module.partition(".")[0] in _ENGINES for found in source.imports)


def _entry_of(project: Project, source: Source) -> str:
    """The file, or the module where Python must be told of the package around it."""
    path = PurePosixPath(source.path)
    if len(path.parts) == 1:
        return source.path
    if path.name != "__main__.py" and not _needs_package(project, source):
        return source.path
    parts = path.with_suffix("").parts
    parts = parts[1:] if parts[0] == "src" and len(parts) > 2 else parts
    parts = parts[:-1] if parts[-1] == "__main__" else parts
    module = ".".join(parts)
    return module if all(part.isidentifier() for part in parts) else source.path


def _needs_package(project: Project, source: Source) -> bool:
    """Relative imports, or absolute ones that are found from the project's top alone."""
    own = str(PurePosixPath(source.path).parent)
    for found in source.imports:
        if found.level:
            return True
        if any(
            not file.startswith(f"{own}/") for file in project.local_files(source, found)
        ) and not _below(project, own, found.module):
            return True
    return False


def _below(project: Project, folder: str, module: str) -> bool:
    root = f"{folder}/{module.partition('.')[0]}"
    return f"{root}.py" in project.paths or any(
        path.startswith(f"{root}/") for path in project.paths
    )
