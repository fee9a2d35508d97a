"""Which AI engine a project needs, from what it imports and calls."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from tesra.doctor.project import Code
from tesra.doctor.report import DEFAULT_ENGINE, EngineProposal, Evidence
from tesra.doctor.source import Import
from tesra.kit.saying import Said, said

_ROOTS: Mapping[str, tuple[str, ...]] = {
    "pytorch": (
        "torch", "torchvision", "torchaudio", "torchtext", "torchmetrics", "pytorch_lightning",
        "lightning", "lightning_fabric", "accelerate", "transformers", "diffusers", "peft", "trl",
        "timm", "ignite", "fastai", "deepspeed", "torch_geometric", "sentence_transformers",
        "ultralytics", "monai", "segmentation_models_pytorch",
    ),
    "tensorflow": (
        "tensorflow", "tf_keras", "tensorflow_addons", "tensorflow_hub", "tensorflow_probability",
        "tensorflow_text", "tflearn",
    ),
    "keras": ("keras", "keras_hub", "keras_cv", "keras_nlp", "keras_tuner"),
    "mxnet": ("mxnet", "gluoncv", "gluonnlp"),
    "jax": ("jax", "flax", "optax", "haiku", "equinox", "orbax", "chex"),
}  # fmt: skip
_ENGINE_OF = {root: engine for engine, roots in _ROOTS.items() for root in roots}
_CORE = {"pytorch": "torch", "tensorflow": "tensorflow", "jax": "jax"}
_VARIABLE = "KERAS_BACKEND"
_OPTIONAL_WEIGHT, _IMPORT_WEIGHT, _USE_WEIGHT_LIMIT = 1, 5, 50


class _Seen(NamedTuple):
    weights: Counter[str]
    evidence: dict[str, list[Evidence]]


def propose_engine(code: Code) -> EngineProposal:
    """The engine that the code leans on most, Keras with the backend that the code names."""
    seen = _look(code)
    if not seen.weights:
        reason = said(f"the code imports no AI engine; {DEFAULT_ENGINE} is the default")
        return EngineProposal(None, None, reason)
    ranked = [engine for engine, _ in seen.weights.most_common()]
    name, backend, why = _settle(code, seen, ranked)
    found = tuple(seen.evidence.get(name, seen.evidence[ranked[0]])[:3])
    others = tuple(engine for engine in ranked if engine != name)
    why = why or said(f"{found[0].place} {found[0].text}")
    return EngineProposal(name, backend, why, found, others)


def _look(code: Code) -> _Seen:
    seen = _Seen(Counter(), {})
    for source in code.sources:
        for found in source.imports:
            engine = _engine_of(found)
            if engine is None or code.project.is_local(source, found):
                continue
            seen.weights[engine] += _OPTIONAL_WEIGHT if found.optional else _IMPORT_WEIGHT
            module = found.module or ", ".join(found.names)
            entry = Evidence(source.path, found.line, said(f"imports {module}"))
            seen.evidence.setdefault(engine, []).append(entry)
    uses = Counter(
        _ENGINE_OF.get(name.partition(".")[0], "")
        for source in code.sources
        for name, _ in source.used
    )
    for engine in seen.weights:
        seen.weights[engine] += min(uses[engine], _USE_WEIGHT_LIMIT)
    return seen


def _engine_of(found: Import) -> str | None:
    root = found.module.partition(".")[0]
    if found.level:
        return None
    if root == "transformers" and found.names:
        kinds = {name[:2] if name.startswith("TF") else name[:4] for name in found.names}
        if kinds == {"TF"}:
            return "tensorflow"
        if kinds == {"Flax"}:
            return "jax"
    return _ENGINE_OF.get(root)


def _settle(code: Code, seen: _Seen, ranked: list[str]) -> tuple[str, str | None, Said | None]:
    """The engine, Keras' backend, and why, if that is more than an import."""
    if "keras" not in ranked:
        return ranked[0], None, None
    named = _named_backend(code)
    if named is not None:
        backend, place = named
        return "keras", backend, said(f"{place.place} {place.text}")
    beside = [engine for engine in ranked if engine in _CORE and _imports(code, _CORE[engine])]
    keras = seen.evidence["keras"][0]
    if not beside:
        if ranked[0] != "keras":
            return ranked[0], None, None
        return "keras", None, None
    if beside[0] == "tensorflow":
        why = said(f"{keras.place} imports keras on TensorFlow, which brings it")
        return "tensorflow", None, why
    core = _CORE[beside[0]]
    return "keras", core, said(f"{keras.place} imports keras beside {core}")


def _imports(code: Code, root: str) -> bool:
    return any(
        found.module.partition(".")[0] == root and not found.level
        for source in code.sources
        for found in source.imports
    )


def _named_backend(code: Code) -> tuple[str, Evidence] | None:
    """``os.environ["KERAS_BACKEND"] = "jax"``, its ``setdefault``, or Keras' own call."""
    for source in code.sources:
        folder = code.folder(source)
        named = [(line, value) for name, value, line in source.variables_set if name == _VARIABLE]
        named += [
            (call.line, call.node.args[0])
            for call in source.calls
            if call.name == "keras.config.set_backend" and call.node.args
        ]
        for line, expression in named:
            value = folder.text(expression)
            if value is not None and value in _CORE.values():
                return value, Evidence(source.path, line, said(f"sets Keras' backend to {value}"))
    return None
