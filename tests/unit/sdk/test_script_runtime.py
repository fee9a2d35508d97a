"""What a script has of Tesra: within a run, and bare."""

import copy
import json
import math
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import tesra
from tesra.node.runtime import runtime_folder
from tesra.sdk.runtime.metrics import MAX_VALUES, Metrics
from tesra.sdk.runtime.parameters import Params


class Tensor:
    """As torch, NumPy and TensorFlow have it: one element, or more."""

    def __init__(self, *values: float) -> None:
        self.values = values

    def item(self) -> float:
        if len(self.values) != 1:
            raise RuntimeError("more than one element")
        return self.values[0]


class Evil:
    def __float__(self) -> float:
        raise KeyError("no")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class EvilMapping(dict[str, Any]):
    def items(self) -> Any:
        raise MemoryError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "metrics.jsonl"
    monkeypatch.setenv("TESRA_METRICS_FILE", str(file))
    return file


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    return runtime_folder(tmp_path / "runtime")


def points(file: Path) -> list[tuple[float, int | None, dict[str, Any]]]:
    """All points of a file, whatever lines they stand in."""
    return [tuple(point) for line in file.read_text().splitlines() for point in json.loads(line)]


def script(runtime: Path, code: str, cwd: Path, **environ: str) -> str:
    """Run by an interpreter that sees neither our packages nor our sources."""
    done = subprocess.run(
        [sys.executable, "-S", "-W", "error", "-c", textwrap.dedent(code)],
        env={"PYTHONPATH": str(runtime), "PATH": os.defpath, **environ},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# tesra.log


def test_numbers_of_all_kinds_are_kept_and_the_rest_is_told_once(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = Metrics()
    values = {
        "loss": 0.5, "step": 3, "on": True, "tensor": Tensor(1.5), "nan": float("nan"),
        "inf": float("inf"), "less": float("-inf"), "huge": 10**400, "big": 2**70,
        "val": {"acc": 0.9, 1: 2}, "text": "0.1", "none": None, "list": [1], "pair": Tensor(1, 2),
        "evil": Evil(),
    }  # fmt: skip
    metrics.log(values, 7)
    metrics.log(values, 8)
    metrics.flush()
    (_t, first_step, first), (_t, second_step, _second) = points(file)
    assert math.isnan(first.pop("nan"))
    assert first == {
        "loss": 0.5, "step": 3, "on": 1, "tensor": 1.5, "inf": math.inf, "less": -math.inf,
        "big": float(2**70), "val/acc": 0.9, "val/1": 2,
    }  # fmt: skip
    assert (first_step, second_step) == (7, 8)
    told = capsys.readouterr().err
    for name in ("text", "none", "list", "pair", "evil", "huge"):
        assert told.count(f"'{name}'") == 1


@pytest.mark.parametrize("values", [None, 3, [1], "x", EvilMapping(), {}, {None: 1, 2: Evil()}])
def test_whatever_is_logged_no_exception_reaches_the_script(file: Path, values: Any) -> None:
    Metrics().log(values, step=Evil())  # type: ignore[arg-type]  # as a script may


def test_a_file_that_cannot_be_written_is_told_once_and_forgiven(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TESRA_METRICS_FILE", "/nowhere/at/all")
    metrics = Metrics()
    for _ in range(3):
        metrics.log({"loss": 1}, 1)
    metrics.flush()  # nothing is left to be written during another test
    assert capsys.readouterr().err.count("not logged") == 1


def test_a_closed_standard_error_hurts_nobody(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    Metrics().log({"text": "x"}, 1)


def test_of_a_million_values_the_first_are_kept(file: Path) -> None:
    Metrics().log({f"{n:06}" + "x" * 1000: n for n in range(2 * MAX_VALUES)}, 1)
    [(_t, _step, values)] = points(file)
    assert len(values) == MAX_VALUES
    assert max(map(len, values)) <= 256


def test_without_the_variable_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TESRA_METRICS_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    tesra.log({"loss": 1.0})
    assert list(tmp_path.iterdir()) == []


# tesra.params


def test_parameters_are_attributes_and_items() -> None:
    params = Params(lambda: {"lr": 0.1, "batch-size": 32, "items": 1})
    assert (params.lr, params["lr"], params.batch_size, params["items"]) == (0.1, 0.1, 32, 1)
    assert params.get("none", 5) == 5
    assert "lr" in params
    assert "none" not in params
    assert dict(params) == {"lr": 0.1, "batch-size": 32, "items": 1}


def test_a_default_serves_until_the_run_has_a_value() -> None:
    values = {"lr": 0.1}
    params = Params(lambda: values)
    assert params.setdefault("lr", 9) == 0.1
    assert params.setdefault("depth", 3) == 3
    assert (params.depth, len(params)) == (3, 2)
    values["depth"] = 5
    assert params.depth == 5


def test_a_missing_parameter_says_how_to_give_it() -> None:
    params = Params(dict)
    with pytest.raises(AttributeError, match="--param lr=VALUE"):
        _ = params.lr
    with pytest.raises(KeyError):
        _ = params["lr"]
    with pytest.raises(AttributeError, match="read only"):
        params.lr = 1  # type: ignore[misc]  # what a script may try


def test_parameters_go_to_worker_processes() -> None:
    params = Params(lambda: {"lr": 0.1})
    assert pickle.loads(pickle.dumps(params)).lr == copy.deepcopy(params).lr == 0.1


# Within a run


def test_a_script_imports_tesra_where_nothing_is_installed(runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "params.json").write_text('{"lr": 0.25, "deep": true}')
    said = script(
        runtime,
        """
        import sys
        before = set(sys.modules)
        import tesra
        from tesra import params, log, output_dir
        print(params.lr, tesra.params["deep"], tesra.checkpoint_dir, output_dir)
        print(tesra.step(), tesra.step())
        log({"loss": 1})
        tesra.log({"loss": 2}, step=9)
        loaded = {name.split(".")[0] for name in set(sys.modules) - before}
        print(sorted(loaded - set(sys.stdlib_module_names)))
        """,
        tmp_path,
        TESRA_PARAMS_FILE=str(tmp_path / "params.json"),
        TESRA_METRICS_FILE=str(tmp_path / "m.jsonl"),
        TESRA_CHECKPOINT_DIR=str(tmp_path / "cp"),
        TESRA_OUTPUT_DIR=str(tmp_path / "out"),
    )
    assert said == f"0.25 True {tmp_path}/cp {tmp_path}/out\n1 2\n['tesra']\n"
    assert [step for _t, step, _values in points(tmp_path / "m.jsonl")] == [2, 9]


def test_a_script_runs_bare_too(runtime: Path, tmp_path: Path) -> None:
    code = """
    import tesra
    tesra.log({"loss": 1})
    print(tesra.params.setdefault("lr", 0.1), tesra.step(), tesra.checkpoint_dir, tesra.output_dir)
    print((tesra.checkpoint_dir / "x").write_text("a"))
    """
    assert script(runtime, code, tmp_path) == "0.1 1 checkpoints out\n1\n"


def test_a_spoilt_parameter_file_is_told_and_counts_as_empty(runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "params.json").write_text('{"lr": ')
    code = "import tesra; print(dict(tesra.params), tesra.params.get('lr', 1))"
    file = str(tmp_path / "params.json")
    assert script(runtime, code, tmp_path, TESRA_PARAMS_FILE=file) == "{} 1\n"


def test_forked_processes_log_each_point_once(runtime: Path, tmp_path: Path) -> None:
    code = """
    import os, tesra, threading
    for n in range(50):
        tesra.log({"start": n})
    children = [os.fork() for _ in range(3)]
    if 0 not in children:
        assert threading.active_count() == 1
        [os.waitpid(child, 0) for child in children]
    for n in range(200):
        tesra.log({"loss": n, "text" * 20: 1.0}, step=n)
    """
    script(runtime, code, tmp_path, TESRA_METRICS_FILE=str(tmp_path / "m.jsonl"))
    found = points(tmp_path / "m.jsonl")
    assert sum("start" in values for _t, _step, values in found) == 50
    steps = sorted(step for _t, step, values in found if "loss" in values)
    assert steps == sorted([*range(200)] * 8)  # three forks: eight processes


def test_points_that_come_fast_wait_only_a_moment(file: Path) -> None:
    metrics = Metrics()
    for n in range(3):
        metrics.log({"loss": n}, n)
    deadline = time.monotonic() + 10
    while len(points(file)) < 3:
        assert time.monotonic() < deadline
    assert [step for _t, step, _values in points(file)] == [0, 1, 2]


def test_threads_lose_no_point(file: Path) -> None:
    metrics = Metrics()

    def log(first: int) -> None:
        for n in range(first, first + 5000):
            metrics.log({"loss": n}, n)

    threads = [threading.Thread(target=log, args=(start * 5000,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    metrics.flush()
    assert sorted(step or 0 for _t, step, _values in points(file)) == list(range(20_000))


def test_what_was_logged_last_is_there_when_a_process_ends(runtime: Path, tmp_path: Path) -> None:
    code = """
    import multiprocessing, signal, tesra, tesra.sdk.runtime.names
    def log(first):
        for n in range(first, first + 9):
            tesra.log({"loss": n}, n)
    signal.signal(signal.SIGALRM, lambda *_: log(100))
    child = multiprocessing.get_context("fork").Process(target=log, args=(0,))
    child.start()
    child.join()
    signal.setitimer(signal.ITIMER_REAL, 1e-3)
    while not tesra.sdk.runtime.names._metrics._written_at:
        pass
    log(200)
    """
    script(runtime, code, tmp_path, TESRA_METRICS_FILE=str(tmp_path / "m.jsonl"))
    steps = sorted(step or 0 for _t, step, _values in points(tmp_path / "m.jsonl"))
    assert steps == [*range(9), *range(100, 109), *range(200, 209)]


def test_the_folder_is_made_once_for_anyone_to_read(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        folder = runtime_folder(tmp_path)
    finally:
        os.umask(old)
    assert runtime_folder(tmp_path) == folder
    assert list(tmp_path.iterdir()) == [folder]
    for path in folder.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)
    names = {str(path.relative_to(folder)) for path in folder.rglob("*.py")}
    assert "tesra/__init__.py" in names
    assert "tesra/sdk/client.py" not in names


LOOP = """
import tesra, time
print(tesra.resume_from, tesra.stopping, flush=True)
deadline = time.monotonic() + 20
while not tesra.stopping and time.monotonic() < deadline:
    time.sleep(0.005)
print("saved", flush=True)
"""


def loop(runtime: Path, source: str = LOOP, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-S", "-c", source],
        env={"PYTHONPATH": str(runtime), **environ},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_script_that_asks_ends_by_itself_when_it_is_asked_to(
    runtime: Path, tmp_path: Path
) -> None:
    script = loop(
        runtime, TESRA_STOPPING_FILE=str(tmp_path / "stopping"), TESRA_RESUME_FROM="/c/a.pt"
    )
    assert script.stdout is not None
    assert script.stdout.readline() == "/c/a.pt False\n"
    script.terminate()
    assert script.communicate()[0] == "saved\n"
    assert script.returncode == 0


def test_a_scripts_own_handler_stays_and_the_file_tells_it(runtime: Path, tmp_path: Path) -> None:
    handler = (
        "import os, signal\nsignal.signal(signal.SIGTERM, lambda *_: os.write(1, b'own\\n'))\n"
    )
    flag = tmp_path / "stopping"
    script = loop(runtime, handler + LOOP, TESRA_STOPPING_FILE=str(flag))
    assert script.stdout is not None
    assert script.stdout.readline() == "None False\n"
    script.terminate()
    assert script.stdout.readline() == "own\n"
    flag.touch()
    assert script.communicate()[0] == "saved\n"


def test_outside_of_a_run_nothing_is_taken_from_the_script(runtime: Path) -> None:
    script = loop(runtime)
    assert script.stdout is not None
    assert script.stdout.readline() == "None False\n"
    script.terminate()
    script.communicate()
    assert script.returncode == -15
