"""What works on the author's machine and may not on another."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from tesra.doctor.folding import HOLE
from tesra.doctor.paths import Written, covers
from tesra.doctor.project import Code
from tesra.doctor.report import Caution, OutputProposal, PathUse
from tesra.doctor.source import Call, Source
from tesra.kit.saying import Said, said

_ABSOLUTE = re.compile(
    r"(/(home|Users|mnt|data|root|media|opt|scratch|workspace|content|kaggle|srv|nfs|datasets?)/\S+"
    r"|[A-Za-z]:[\\/]\S+|~/\S+)"
)
_HARMLESS = ("/tmp", "/dev/", "/proc/", "/sys/", "/etc/", "/usr/")  # noqa: S108 - not used as a path
_DOWNLOADS: tuple[tuple[str, Said], ...] = (
    (r"torch\.hub\.(load|load_state_dict_from_url|download_url_to_file)", said("from torch.hub")),
    (r"urllib\.request\.(urlretrieve|urlopen)|wget\.download|gdown\.\w+", said("from the web")),
    (r"requests\.(get|request)", said("from the web")),
    (r"(tensorflow\.)?keras\.datasets\.\w+\.load_data", said("a data set of Keras")),
    (r"(tensorflow\.)?keras\.utils\.get_file", said("from the web")),
    (r"datasets\.load_dataset|tensorflow_datasets\.load", said("a data set")),
    (r"huggingface_hub\.(snapshot_download|hf_hub_download)", said("from Hugging Face")),
    (
        r"(transformers|diffusers)\..*\.from_pretrained",
        said("a model, unless it is in the project"),
    ),
    (r"sklearn\.datasets\.fetch_\w+", said("a data set of scikit-learn")),
    (r"torchvision\.models\.\w+", said("the weights")),
    (r"tensorflow_hub\.(load|KerasLayer)", said("a model")),
    (r"nltk\.download|gluoncv\.model_zoo\.get_model", said("what it needs")),
)
_GUARDS = re.compile(
    r"torch\.(cuda|accelerator|backends)\..*(is_available|device_count|current_accelerator)"
    r"|torch\.cuda\.is_available|torch\.cuda\.device_count"
)
_CUDA = re.compile(r"cuda(:\d+)?")
_ON_DEVICE = frozenset({"to", "device", "cuda", "autocast"})
_LIMIT = 100


def find_cautions(
    code: Code, written: list[Written], output: OutputProposal, data: tuple[PathUse, ...]
) -> list[Caution]:
    """All warnings about the code that runs, file by file."""
    found: list[Caution] = []
    for source in code.sources:
        found += _absolute_paths(source)
        found += _cuda(code, source)
        found += _devices(source)
        for call in source.calls:
            found += _download(code, source, call)
            if call.name == "input":
                text = said("waits for input(): nobody can answer during a run")
                found.append(Caution("input", text, source.path, call.line))
    found += _lost(written, output)
    downloads = any(one.kind == "download" for one in found)
    found += _missing_data(data, downloads=downloads)
    return list(dict.fromkeys(found))[:_LIMIT]


def _absolute_paths(source: Source) -> Iterator[Caution]:
    for text in source.texts:
        if len(text.value) < 1000 and _ABSOLUTE.fullmatch(text.value):
            yield Caution(
                "absolute-path",
                said(f"names the path {text.value}, which another machine does not have"),
                source.path,
                text.line,
            )


def _cuda(code: Code, source: Source) -> Iterator[Caution]:
    """Unless the file asks whether there is a GPU: then it is taken to know what it does."""
    if any(_GUARDS.fullmatch(call.name) for call in source.calls):
        return
    for call in source.calls:
        on_cuda = call.last == "cuda" and call.name.startswith(".") and not call.node.args
        for argument in (call.argument(0, "device"), call.argument(None, "device")):
            value = code.folder(source).text(argument)
            is_device = call.last in _ON_DEVICE or argument is call.argument(None, "device")
            on_cuda |= bool(is_device and value and _CUDA.fullmatch(value))
        if on_cuda:
            text = said(
                "wants cuda without asking torch.cuda.is_available(): it fails on a CPU slot"
            )
            yield Caution("cuda", text, source.path, call.line)


def _devices(source: Source) -> Iterator[Caution]:
    for name, _, line in source.variables_set:
        if name == "CUDA_VISIBLE_DEVICES":
            text = said("sets CUDA_VISIBLE_DEVICES: the run was given its own devices there")
            yield Caution("devices", text, source.path, line)


def _download(code: Code, source: Source, call: Call) -> Iterator[Caution]:
    what = next((words for known, words in _DOWNLOADS if re.fullmatch(known, call.name)), None)
    folder = code.folder(source)
    if call.name.startswith("torchvision.models.") and not _wants_weights(call):
        what = None
    if call.name.endswith(".from_pretrained"):
        name = folder.text(call.argument(0, "pretrained_model_name_or_path"))
        local = name is not None and (name.startswith((".", "/")) or _is_here(code, name))
        what = None if local else what or (said("a model") if call.name.startswith("@") else None)
    if call.argument(None, "download") is not None:
        asked = folder.fold(call.argument(None, "download"))
        what = said("its data") if asked is True else what
    if what is not None:
        text = said(f"{call.last}() downloads {what} while devices are billed")
        yield Caution("download", text, source.path, call.line)


def _wants_weights(call: Call) -> bool:
    """``resnet18(weights="DEFAULT")``, ``resnet18(pretrained=True)``; not ``weights=None``."""
    given = call.argument(None, "weights", "pretrained")
    return given is not None and getattr(given, "value", True) not in {None, False}


def _is_here(code: Code, name: str) -> bool:
    return any(path == name or path.startswith(f"{name}/") for path in code.project.paths)


def _lost(written: list[Written], output: OutputProposal) -> Iterator[Caution]:
    """What is written in the project, or outside, where it is not kept."""
    for one in written:
        path, place = one.path, one.evidence
        if covers(output.path, one.place) or path.startswith((HOLE, *_HARMLESS)) or "://" in path:
            continue
        text = said(f"{place.text}, which is outside of the output {output.path}: it is not kept")
        yield Caution("lost-output", text, place.file, place.line)


def _missing_data(data: tuple[PathUse, ...], *, downloads: bool) -> Iterator[Caution]:
    """Of a folder it is not told where the code downloads: that may be its place."""
    for one in data:
        if one.present is False and not (downloads and not PurePosixPath(one.path).suffix):
            text = said(f"reads {one.path}, which is not in the project (or is ignored there)")
            yield Caution("missing-data", text, one.evidence.file, one.evidence.line)
