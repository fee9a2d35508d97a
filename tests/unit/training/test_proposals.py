"""A request's gaps, filled from the doctor's report."""

from typing import Any

import pytest

from tesra.doctor.examine import examine
from tesra.training.proposals import (
    EntryUnknown,
    Prepared,
    as_it_is,
    complete,
    needs_doctor,
    started_file,
)
from tesra.wire.training import RunRequest

DDP = "import torch\ntorch.distributed.init_process_group('gloo')\nloss.backward()\n"
PLAIN = "import torch\nloss.backward()\ntorch.save(m, 'model/m.pt')\n"


def prepared(files: dict[str, str], **request: Any) -> Prepared:
    report = examine({path: text.encode() for path, text in files.items()})
    wanted = RunRequest(project="p", **request)
    return complete(wanted, report, project="digits", backends=["jax", "torch"])


def test_code_that_forms_a_group_is_launched_as_a_gang_and_says_why() -> None:
    found = prepared({"train.py": DDP}, devices=2)
    assert found.request.launch == "gang"
    assert found.notes == [
        "launch: gang, because train.py:2 forms a torch process group: init_process_group();"
        " --launch single overrides"
    ]


def test_code_of_one_process_is_launched_as_one() -> None:
    found = prepared({"train.py": PLAIN}, devices=2)
    assert found.request.launch == "single"
    assert found.launch_reason == "nothing in the code makes several processes work together"


def test_what_is_said_wins_and_is_not_explained() -> None:
    found = prepared({"train.py": PLAIN}, devices=2, launch="gang", entry="train.py", output="o")
    assert (found.request.launch, found.request.output, found.notes) == ("gang", "o", [])


def test_one_device_needs_no_word_on_the_launch() -> None:
    assert prepared({"train.py": DDP}).notes == []
    asked = RunRequest(project="p", entry="t.py", engine="jax", output="out")
    assert not needs_doctor(asked)
    assert as_it_is(asked).request.launch == "gang"
    assert needs_doctor(asked.model_copy(update={"devices": 2}))
    assert needs_doctor(asked.model_copy(update={"output": None}))


def test_program_that_starts_the_processes_itself_is_one_process() -> None:
    found = prepared({"train.py": DDP}, devices=2, entry=["torchrun", "train.py"])
    assert found.request.launch == "single"
    assert found.launch_reason == "torchrun starts the processes itself"


def test_entry_engine_backend_and_output_are_read_from_the_code() -> None:
    code = "import os\nos.environ['KERAS_BACKEND'] = 'torch'\nimport keras\nm.fit()\nm.save('o/m.keras')\n"
    request = prepared({"learn.py": code}).request
    assert (request.entry, request.engine, request.backend) == ("learn.py", "keras", "torch")
    assert request.output == "o"


def test_two_candidates_are_refused_and_both_named() -> None:
    with pytest.raises(EntryUnknown) as refused:
        prepared({"train_a.py": PLAIN, "train_b.py": PLAIN})
    assert refused.value.fields == {"candidates": ["train_a.py", "train_b.py"]}
    assert "train_a.py or train_b.py" in refused.value.detail
    with pytest.raises(EntryUnknown, match="has no Python file"):
        prepared({"notes.txt": "nothing"})


def test_package_that_nobody_brings_is_a_warning_unless_it_comes_with_the_run() -> None:
    code = {"train.py": "import tqdm\nimport torch\nloss.backward()\n"}
    assert any("--with tqdm" in warning for warning in prepared(code).warnings)
    assert prepared(code, packages=["tqdm==4"]).warnings == ()


@pytest.mark.parametrize(
    ("entry", "file"),
    [
        ("train.py", "train.py"),
        (["python", "-u", "a/t.py", "x.py"], "a/t.py"),
        (["python", "-m", "pkg.train"], "pkg.train"),
        (["python", "-m", "torch.distributed.run", "t.py"], "t.py"),
        (["bash", "run.sh"], None),
        (None, None),
    ],
)
def test_of_a_command_the_python_file_is_looked_at(entry: Any, file: str | None) -> None:
    assert started_file(entry) == file


ARGUMENTS = (
    "import argparse, torch\np = argparse.ArgumentParser()\n"
    "p.add_argument('--lr', '--learning-rate', type=float)\np.add_argument('--epochs', type=int)\n"
)
TRAIN = "args = p.parse_args()\nloss.backward()\n"


def test_parameter_that_the_script_does_not_know_is_told_with_what_comes_close() -> None:
    found = prepared({"train.py": ARGUMENTS + TRAIN}, params={"lrr": 1, "zoom": 2, "epochs": 3})
    assert found.warnings == (
        "parameter lrr: train.py declares no --lrr; did you mean --lr?",
        "parameter zoom: train.py declares no --zoom.",
    )
    assert "warning: parameter zoom: train.py declares no --zoom." in found.notes


def test_other_names_and_shortened_ones_are_known() -> None:
    known = {"learning-rate": 1, "ep": 2}
    assert prepared({"train.py": ARGUMENTS + TRAIN}, params=known).warnings == ()


@pytest.mark.parametrize(
    ("code", "more"),
    [
        (ARGUMENTS + TRAIN.replace("parse_args", "parse_known_args"), {}),
        (ARGUMENTS + "import sys\nprint(sys.argv)\n" + TRAIN, {}),
        ("import torch\nloss.backward()\n", {}),
        (ARGUMENTS + TRAIN, {"param_format": "none"}),
        (ARGUMENTS + TRAIN, {"param_format": "file"}),
    ],
)
def test_nothing_is_said_where_the_script_may_know_it_after_all(code: str, more: Any) -> None:
    assert prepared({"train.py": code}, params={"zoom": 1}, **more).warnings == ()
