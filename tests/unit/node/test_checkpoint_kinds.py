"""What counts as a checkpoint, by the names that frameworks give."""

import pytest

from tesra.node.checkpoint_kinds import newest, step_of, units, why_incomplete

HF = [
    "checkpoint-500/model.safetensors",
    "checkpoint-500/optimizer.pt",
    "checkpoint-500/trainer_state.json",
    "checkpoint-500/rng/state.bin",
]
TF = ["tf/checkpoint", "tf/ckpt-3.index", "tf/ckpt-3.data-00000-of-00001"]


def test_only_what_frameworks_save_is_taken_from_the_output() -> None:
    names = [
        *("model.pt", "lightning_logs/version_0/checkpoints/epoch=3-step=120.ckpt"),
        *("best.weights.h5", "net-0003.params", "net-symbol.json", "state.npz"),
        *("report.txt", "data/train.csv", "events.out.tfevents.1", "plot.png"),
    ]
    found = {name for files in units(names, everything=False).values() for name in files}
    assert found == set(names[:6])


def test_everything_is_taken_from_the_checkpoint_folder() -> None:
    assert units(["notes.txt", "a/b.bin"], everything=True) == {
        "a/b.bin": ["a/b.bin"],
        "notes.txt": ["notes.txt"],
    }


def test_a_folder_of_a_framework_is_one_checkpoint() -> None:
    assert units(HF, everything=False) == {"checkpoint-500": sorted(HF)}
    orbax = ["run/12/_CHECKPOINT_METADATA", "run/12/default/manifest.ocdbt"]
    assert units(orbax, everything=False) == {"run/12": orbax}
    keras = ["backup/latest.weights.h5", "backup/training_metadata.json"]
    assert units(keras, everything=False) == {"backup": keras}


def test_the_files_of_a_tensorflow_folder_belong_together() -> None:
    assert units(TF, everything=False) == {"tf/checkpoint": sorted(TF)}
    assert units(TF[1:], everything=False) == {"tf/ckpt-3": sorted(TF[1:])}


@pytest.mark.parametrize(
    "name", ["7.orbax-checkpoint-tmp-17/default/d", "tmp-checkpoint-500/model.safetensors"]
)
def test_what_is_being_saved_under_a_temporary_name_is_left_out(name: str) -> None:
    assert units([name], everything=True) == {}


@pytest.mark.parametrize(
    ("names", "lacks"),
    [
        (TF, None),
        (["ckpt-3.data-00000-of-00002", "ckpt-3.index"], "a part of"),
        (["ckpt-3.data-00000-of-00001"], "'ckpt-3.index'"),
        (["ckpt-3.index"], "a part of"),
        (HF, None),
        (HF[:2], "'trainer_state.json'"),
        (["model.pt"], None),
    ],
)
def test_a_checkpoint_that_lacks_a_file_is_told(names: list[str], lacks: str | None) -> None:
    why = why_incomplete(names)
    assert (why is None) == (lacks is None)
    assert lacks is None or str(why).startswith(lacks)


@pytest.mark.parametrize(
    ("names", "best"),
    [
        (["epoch-1.pt", "epoch-2.pt", "latest"], "epoch-2.pt"),
        (["log.txt", "model.pt"], "model.pt"),
        (["state.bin"], "state.bin"),
        (["a.bin", "b.bin"], None),
        (HF, "checkpoint-500"),
        (TF, "tf"),
        (["checkpoint", "ckpt-3.index", "ckpt-3.data-00000-of-00001"], ""),
    ],
)
def test_the_newest_is_what_a_script_can_load(names: list[str], best: str | None) -> None:
    found = units(names, everything=True)
    written = {path: place for place, path in enumerate(found)}
    assert newest(written, found) == best


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("checkpoint-500", 500),
        ("a/epoch=3-step=120.ckpt", 120),
        ("ckpt-12", 12),
        ("step_000040", 40),
        ("net-0003.params", 3),
        ("12", 12),
        ("epoch_7.pt", 7),
        ("model.pt", None),
        ("last.ckpt", None),
    ],
)
def test_the_step_is_read_from_the_name(path: str, step: int | None) -> None:
    assert step_of(path) == step
