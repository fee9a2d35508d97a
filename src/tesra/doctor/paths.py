"""What the code reads and writes, and so which output to keep."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from tesra.doctor.folding import HOLE
from tesra.doctor.project import Code
from tesra.doctor.report import DEFAULT_OUTPUT, Evidence, OutputProposal, Parameter, PathUse
from tesra.doctor.source import Call, Source
from tesra.kit.saying import said

_MODEL, _DATA, _OPTION, _LOG = 6, 2, 3, 1


class _Place(NamedTuple):
    """Where in a call the path stands: -1 is what the method is called on."""

    position: int | None
    keywords: tuple[str, ...] = ()
    weight: int = _DATA
    default: str | None = None  # where the library writes when it is not told
    is_file: bool = False


_WRITERS: dict[str, _Place] = {
    "torch.save": _Place(1, ("f",), _MODEL, is_file=True),
    "torch.jit.save": _Place(1, ("f",), _MODEL),
    "torch.onnx.export": _Place(2, ("f",), _MODEL),
    "torch.distributed.checkpoint.save": _Place(None, ("checkpoint_id",), _MODEL),
    "safetensors.torch.save_file": _Place(1, ("filename",), _MODEL),
    "safetensors.numpy.save_file": _Place(1, ("filename",), _MODEL),
    "tensorflow.saved_model.save": _Place(1, ("export_dir",), _MODEL),
    "joblib.dump": _Place(1, ("filename",), _MODEL, is_file=True),
    "mxnet.model.save_checkpoint": _Place(0, ("prefix",), _MODEL, is_file=True),
    "mxnet.nd.save": _Place(0, ("fname",), _MODEL),
    "numpy.save": _Place(0, ("file",), is_file=True),
    "numpy.savez": _Place(0, ("file",), is_file=True),
    "numpy.savez_compressed": _Place(0, ("file",)),
    "numpy.savetxt": _Place(0, ("fname",)),
    "cv2.imwrite": _Place(0, ("filename",)),
    "torchvision.utils.save_image": _Place(1, ("fp",)),
    "matplotlib.pyplot.savefig": _Place(0, ("fname",)),
    "os.makedirs": _Place(0, ("name",), _LOG),
    "os.mkdir": _Place(0, ("path",), _LOG),
}
_LIGHTNING = _Place(None, ("default_root_dir",), _MODEL, "lightning_logs")
_CLASSES: tuple[tuple[str, _Place], ...] = (
    (r"(.*\.)?(keras|tf_keras)\.callbacks\.(ModelCheckpoint|BackupAndRestore)",
     _Place(0, ("filepath", "backup_dir"), _MODEL)),
    (r"(lightning|pytorch_lightning)\..*ModelCheckpoint", _Place(0, ("dirpath",), _MODEL)),
    (r"(lightning(\.pytorch)?|pytorch_lightning)\.Trainer", _LIGHTNING),
    (r"(transformers|trl)\.(\w*TrainingArguments|\w+Config)", _Place(0, ("output_dir",), _MODEL)),
    (r".*\.SummaryWriter", _Place(0, ("log_dir", "logdir"), _LOG, "runs")),
    (r".*keras\.callbacks\.(TensorBoard|CSVLogger)", _Place(0, ("log_dir", "filename"), _LOG)),
    (r"(lightning|pytorch_lightning)\..*Logger", _Place(0, ("save_dir",), _LOG)),
)  # fmt: skip
_METHODS: dict[str, _Place] = {
    "save": _Place(0, ("filepath", "path", "save_directory"), _MODEL),
    "save_pretrained": _Place(0, ("save_directory",), _MODEL),
    "save_model": _Place(0, ("output_dir", "filepath", "fname"), _MODEL),
    "save_weights": _Place(0, ("filepath",), _MODEL, is_file=True),
    "save_parameters": _Place(0, ("filename",), _MODEL, is_file=True),
    "save_params": _Place(0, ("fname",), _MODEL),
    "save_checkpoint": _Place(0, ("filepath", "save_dir"), _MODEL),
    "export": _Place(0, ("filepath", "path"), _MODEL),
    "to_csv": _Place(0, ("path_or_buf",)),
    "to_parquet": _Place(0, ("path",)),
    "savefig": _Place(0, ("fname",)),
    "write_text": _Place(-1, is_file=True),
    "write_bytes": _Place(-1, is_file=True),
    "mkdir": _Place(-1, (), _LOG),
}
_READERS: dict[str, _Place] = {
    "torch.load": _Place(0, ("f",)),
    "numpy.load": _Place(0, ("file",)),
    "numpy.loadtxt": _Place(0, ("fname",)),
    "numpy.genfromtxt": _Place(0, ("fname",)),
    "numpy.fromfile": _Place(0, ("file",)),
    "joblib.load": _Place(0, ("filename",)),
    "PIL.Image.open": _Place(0, ("fp",)),
    "h5py.File": _Place(0, ("name",)),
    "cv2.imread": _Place(0, ("filename",)),
    "os.listdir": _Place(0, ("path",)),
    "os.scandir": _Place(0, ("path",)),
    "os.walk": _Place(0, ("top",)),
    "glob.glob": _Place(0, ("pathname",)),
    "glob.iglob": _Place(0, ("pathname",)),
    "datasets.load_from_disk": _Place(0, ("dataset_path",)),
    "tensorflow.data.TFRecordDataset": _Place(0, ("filenames",)),
    "torchvision.datasets.ImageFolder": _Place(0, ("root",)),
    "torchvision.datasets.DatasetFolder": _Place(0, ("root",)),
}
_READING_NAMES = re.compile(
    r"pandas\.read_\w+|polars\.(read|scan)_\w+|torchaudio\.load|soundfile\.read"
    r"|(tensorflow\.)?keras\.utils\.\w+_dataset_from_directory"
)
_READING_METHODS = frozenset({"read_text", "read_bytes", "iterdir", "glob", "rglob"})
_OUTPUT_OPTION = re.compile(
    r"(out|output|save|ckpt|checkpoint|model|result|export|log|work)s?([-_](dir|path|folder|file|root))"
    r"|out|output|outdir|savedir|logdir|save[-_]to|results?|checkpoints?"
)
_LOGS = re.compile(r"log.*|work.*")
_DATA_OPTION = re.compile(
    r"(data|dataset|train|input|image|corpus|val|test)s?[-_]?(dir|path|folder|file|root)|data"
)
_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Written:
    """A path that is written; ``weight`` says how much it looks like the result."""

    path: str
    weight: int
    evidence: Evidence
    is_file: bool = False

    @property
    def place(self) -> str | None:
        """What has to be kept for it; None when it is outside of the project, or not known."""
        return kept(self.path, is_file=self.is_file)


def find_written(code: Code, parameters: tuple[Parameter, ...]) -> list[Written]:
    """Every path that the code is known to write, in its order."""
    found = [one for source, call in code.calls() for one in _writes(code, source, call)]
    for parameter in parameters:
        name = parameter.name.lower()
        if isinstance(parameter.default, str) and _OUTPUT_OPTION.fullmatch(name):
            weight = _LOG if _LOGS.fullmatch(name) else _OPTION
            where = parameter.evidence
            text = said(f"--{parameter.name} has the default {parameter.default}")
            found.append(Written(parameter.default, weight, Evidence(where.file, where.line, text)))
    return found[:_LIMIT]


def propose_output(code: Code, written: list[Written]) -> OutputProposal:
    """The folder that gets the model; a file, where the project's top itself would be the folder."""
    uses = tuple(PathUse(one.path, one.evidence) for one in written)
    weights: dict[str, int] = {}
    for one in written:
        if one.place is not None:
            weights[one.place] = max(weights.get(one.place, 0), one.weight)
    if not weights:
        asked = _asks_tesra(code)
        reason = said(
            f"{asked.place} writes where Tesra says"
            if asked
            else f"nothing in the code says where it writes; {DEFAULT_OUTPUT} is the default"
        )
        return OutputProposal(DEFAULT_OUTPUT, reason, uses)
    best = max(weights, key=lambda place: weights[place])
    holding = [one for one in written if one.place == best]
    why = max(holding, key=lambda one: one.weight).evidence
    return OutputProposal(_common(best, weights), said(f"{why.place} {why.text}"), uses)


def kept(path: str, *, is_file: bool = False) -> str | None:
    """The folder of the project that holds what is written there, or the file at its top."""
    clean = path.replace("\\", "/").strip()
    known, hole, _ = clean.partition(HOLE)
    if not clean or clean.startswith(("/", "~")) or "://" in clean or not clean.isprintable():
        return None
    if hole:
        known = known.rpartition("/")[0]
    parts = [part for part in known.split("/") if part not in {"", "."}]
    if ".." in parts or not parts or re.fullmatch(r"[A-Za-z]:", parts[0]):
        return None
    is_file |= bool(PurePosixPath(parts[-1]).suffix)
    folder = parts[:-1] if is_file and not hole else parts
    return "/".join(folder or parts)


def covers(output: str, place: str | None) -> bool:
    """Whether what has to be kept is kept with this output."""
    return place is not None and (place == output or place.startswith(f"{output}/"))


def find_read(
    code: Code, parameters: tuple[Parameter, ...], written: list[Written]
) -> tuple[PathUse, ...]:
    """Every path that the code reads and does not write itself."""
    own = {one.path for one in written} | {one.place for one in written}
    found: dict[str, PathUse] = {}
    reads = [one for source, call in code.calls() for one in _reads(code, source, call)]
    for parameter in parameters:
        if isinstance(parameter.default, str) and _DATA_OPTION.fullmatch(parameter.name.lower()):
            where = parameter.evidence
            text = said(f"--{parameter.name} has this default")
            reads.append((parameter.default, Evidence(where.file, where.line, text)))
    for path, evidence in reads:
        if path and path not in own and kept(path) not in own and path not in {".", HOLE}:
            found.setdefault(path, PathUse(path, evidence, _present(code, path)))
    return tuple(found.values())[:_LIMIT]


def _writes(code: Code, source: Source, call: Call) -> Iterator[Written]:
    place = _writer(call)
    if place is None:
        return
    node = _path_of(call, place)
    path = code.folder(source).text(node)
    if path is None and node is None:
        path = place.default
    if path and path != HOLE:
        text = said(f"{call.last}() writes {path}")
        where = Evidence(source.path, call.line, text)
        yield Written(path, place.weight, where, place.is_file)


def _writer(call: Call) -> _Place | None:
    if call.name in _WRITERS:
        return _WRITERS[call.name]
    if _opens_to_write(call) is True:
        return _Place(0 if call.name in {"open", "io.open"} else -1, ("file",), is_file=True)
    if call.name.startswith((".", "@")):
        place = _METHODS.get(call.last)
        return place if place is not None and "." in call.name else None
    if _METHODS.get(call.last, _Place(0)).position == -1:  # Path("out").mkdir()
        return _METHODS[call.last]
    return next((place for known, place in _CLASSES if re.fullmatch(known, call.name)), None)


def _opens_to_write(call: Call) -> bool | None:
    """None when it opens nothing."""
    if call.name == "open" or call.name == "io.open":
        mode = call.argument(1, "mode")
    elif call.last == "open" and call.name.startswith((".", "pathlib.")):
        mode = call.argument(0, "mode")
    else:
        return None
    text = mode.value if isinstance(mode, ast.Constant) else "r"
    return isinstance(text, str) and any(letter in text for letter in "wax")


def _path_of(call: Call, place: _Place) -> ast.expr | None:
    if place.position == -1:
        return call.node.func.value if isinstance(call.node.func, ast.Attribute) else None
    return call.argument(place.position, *place.keywords)


def _reads(code: Code, source: Source, call: Call) -> Iterator[tuple[str, Evidence]]:
    if call.name in _READERS:
        node = _path_of(call, _READERS[call.name])
    elif _READING_NAMES.fullmatch(call.name):
        node = call.argument(0)
    elif _opens_to_write(call) is False:
        node = _path_of(call, _Place(0 if call.name in {"open", "io.open"} else -1, ("file",)))
    elif call.last in _READING_METHODS:
        node = _path_of(call, _Place(-1))
    else:
        return
    path = code.folder(source).text(node)
    if path is not None:
        yield path, Evidence(source.path, call.line, said(f"{call.last}() reads {path}"))


def _present(code: Code, path: str) -> bool | None:
    """Whether the project holds it; None for what is outside of the project or not fully known."""
    if HOLE in path or "://" in path or path.startswith(("/", "~", "..")) or "\\" in path:
        return None
    clean = str(PurePosixPath(path))
    paths = code.project.paths
    return clean in paths or any(one.startswith(f"{clean}/") for one in paths)


def _asks_tesra(code: Code) -> Evidence | None:
    for source in code.sources:
        for variable, line in source.variables_read:
            if variable == "TESRA_OUTPUT_DIR":
                return Evidence(source.path, line, said("reads TESRA_OUTPUT_DIR"))
        for name, line in source.used:
            if name == "tesra.output_dir":
                return Evidence(source.path, line, said("uses tesra.output_dir"))
    return None


def _common(best: str, weights: dict[str, int]) -> str:
    """``out`` rather than ``out/models``, when ``out/logs`` is written too."""
    parts = best.split("/")
    siblings = [place.split("/") for place in weights if place.split("/")[0] == parts[0]]
    shared = len(parts)
    for other in siblings:
        same = 0
        while same < min(len(other), shared) and other[same] == parts[same]:
            same += 1
        shared = same
    return "/".join(parts[:shared])
