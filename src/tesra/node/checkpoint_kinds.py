"""Which files are checkpoints, which of them belong together, and which is the newest. Pure.

In ``TESRA_CHECKPOINT_DIR`` everything is one; in the output only what a framework's saving leaves.
Paths are relative to the folder that they were found in, with slashes.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

_SUFFIXES = (
    *(".pt", ".pth", ".ckpt", ".safetensors", ".npz"),
    *(".keras", ".h5", ".hdf5", ".params", ".states"),
)
_NAMES = frozenset(  # small files that say which checkpoint is the last, or how far it is
    {
        *("checkpoint", "latest", "last_checkpoint", "latest_checkpointed_iteration.txt"),
        *("trainer_state.json", "training_metadata.json", "optimizer.bin", "scheduler.bin"),
    }
)
_MARKERS = frozenset(  # a folder with one of these is one checkpoint
    {
        *("_CHECKPOINT_METADATA", "_METADATA", "commit_success.txt"),  # orbax
        *("trainer_state.json", "training_metadata.json"),  # HF Trainer, Keras BackupAndRestore
        *(".metadata", "saved_model.pb"),  # torch.distributed.checkpoint, TensorFlow
    }
)
_NUMBERED = re.compile(r"(?:(?:checkpoint|ckpt|step|global_step|iter|epoch)[-_=]?)?\d+")
_UNFINISHED = (".orbax-checkpoint-tmp", "tmp-checkpoint-")
_TF_PART = re.compile(r"(?P<prefix>.+)\.(?:index|data-(?P<part>\d{5})-of-(?P<parts>\d{5}))")
_STEPS = (
    re.compile(r"(?:global_)?step[-_=]?(\d+)", re.IGNORECASE),
    re.compile(r"(?:checkpoint|ckpt|iter)[-_=]?(\d+)", re.IGNORECASE),
    re.compile(r"epoch[-_=]?(\d+)", re.IGNORECASE),
    re.compile(r"(\d+)(?:\.\w+)*$"),
)


def units(names: Collection[str], *, everything: bool) -> dict[str, list[str]]:
    """The files of each checkpoint by its path; what is stored of one is stored whole.

    A checkpoint is a file, or a folder of a framework's, or TensorFlow's parts under one prefix.
    ``everything`` takes in files that no framework is known to write.
    """
    folders = _checkpoint_folders(names)
    tensorflow = {name.rpartition("/")[0] for name in names if _base(name) == "checkpoint"}
    found: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        if any(mark in name for mark in _UNFINISHED):
            continue
        above, _, base = name.rpartition("/")
        part = _TF_PART.fullmatch(name)
        folder = next((path for path in _above(name) if path in folders), None)
        if folder is not None:
            found[folder].append(name)
        elif above in tensorflow and (part or base == "checkpoint"):
            found[f"{above}/checkpoint".lstrip("/")].append(name)
        elif part:
            found[part["prefix"]].append(name)
        elif everything or is_checkpoint(name):
            found[name].append(name)
    return dict(found)


def is_checkpoint(name: str) -> bool:
    """Whether a file by itself is what a framework saves."""
    base = _base(name)
    return base in _NAMES or base.endswith(_SUFFIXES) or base.endswith("-symbol.json")


def why_incomplete(names: Collection[str]) -> str | None:
    """What one checkpoint's files lack, as far as their names tell."""
    parts: dict[str, set[int]] = defaultdict(set)
    wanted: dict[str, int] = {}
    indices = {name.removesuffix(".index") for name in names if name.endswith(".index")}
    for name in names:
        part = _TF_PART.fullmatch(name)
        if part and part["part"]:
            parts[part["prefix"]].add(int(part["part"]))
            wanted[part["prefix"]] = int(part["parts"])
    for prefix in sorted(indices | parts.keys()):
        if prefix not in indices:
            return f"'{prefix}.index' is missing"
        if len(parts[prefix]) < wanted.get(prefix, 1):
            return f"a part of '{prefix}.data' is missing"
    bases = {_base(name) for name in names}
    if {"optimizer.pt", "scheduler.pt"} & bases and "trainer_state.json" not in bases:
        return "'trainer_state.json' is missing"
    return None


def newest(written: Mapping[str, int], found: Mapping[str, list[str]]) -> str | None:
    """Which checkpoint to go on from, by the times of the last writes; None for the folder itself.

    What a framework saved goes before what merely lies there; of several unknown files none is
    better than another. TensorFlow's ``checkpoint`` is meant as the folder that it lies in.
    """
    known = {path: at for path, at in written.items() if _resumable(path, found[path])}
    if not known and len(written) == 1:
        known = dict(written)
    if not known:
        return None
    best = max(known, key=lambda path: (known[path], path))
    return best.rpartition("/")[0] if _base(best) == "checkpoint" else best


def step_of(path: str) -> int | None:
    """The step or epoch in a checkpoint's name, if it has one."""
    base = _base(path)
    for pattern in _STEPS:
        found = pattern.search(base)
        if found and len(found[1]) <= 15:
            return int(found[1])
    return None


def _resumable(path: str, files: list[str]) -> bool:
    if files != [path]:  # a folder, or several files under a prefix
        return True
    base = _base(path)
    return is_checkpoint(path) and (
        base == "checkpoint" or (base not in _NAMES and not base.endswith("-symbol.json"))
    )


def _checkpoint_folders(names: Iterable[str]) -> set[str]:
    folders: set[str] = set()
    for name in names:
        for path in _above(name):
            if _NUMBERED.fullmatch(_base(path)) or path.endswith(".ckpt"):
                folders.add(path)
        if _base(name) in _MARKERS and "/" in name:
            folders.add(name.rpartition("/")[0])
    return folders


def _above(name: str) -> list[str]:
    """The folders of a path, the topmost first."""
    parts = name.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _base(name: str) -> str:
    return name.rpartition("/")[2]
