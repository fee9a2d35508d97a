"""A rank's side of tuning: what it promises, when it waits, and what it does when nobody answers."""

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tesra.node.entry import IN_RANK
from tesra.node.rank_plan import RANK_RUNTIME
from tesra.sdk.runtime import tuner as module
from tesra.sdk.runtime.parameters import Params, live
from tesra.sdk.runtime.tuner import Tuner

SOURCES = Path(__file__).parents[3] / "src"


class Rank:
    """A training that steps in a thread, and the platform's two files."""

    def __init__(self, folder: Path) -> None:
        self.orders_file, self.status_file = folder / "orders.json", folder / "status"
        self.tuner = Tuner()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._train)

    def begin(self) -> None:
        self._thread.start()
        self.until(lambda: self.status.get("live"))

    def end(self) -> None:
        self.order()
        self._end.set()
        self._thread.join(10)
        self.tuner.rank = False

    def order(self, **fields: Any) -> None:
        """Replace the orders; none without fields."""
        orders = [{"seq": 1, "round": 1, "step": None, "values": {"lr": 0.5}, **fields}]
        draft = self.orders_file.with_suffix(".new")
        draft.write_text(json.dumps({"orders": orders if fields else []}))
        draft.rename(self.orders_file)

    @property
    def status(self) -> dict[str, Any]:
        line = self.status_file.read_bytes().partition(b"\n")[0]
        found: dict[str, Any] = json.loads(line[9:]) if line else {}
        return found

    def until(self, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 10
        while not (found := condition()):
            assert time.monotonic() < deadline, self.status
            time.sleep(0.005)
        return found

    def waits(self) -> bool:
        """Stands at the limit that it has promised."""
        ask = self.status.get("ask")
        return bool(ask) and self.tuner.done == ask[2]

    def _train(self) -> None:
        while not self._end.is_set():
            time.sleep(0.001)
            self.tuner.advance()


@pytest.fixture
def rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rank]:
    monkeypatch.setenv("TESRA_TUNING_FILE", str(tmp_path / "orders.json"))
    monkeypatch.setenv("TESRA_TUNING_STATUS", str(tmp_path / "status"))
    (tmp_path / "status").touch()
    rank = Rank(tmp_path)
    rank.order()
    rank.begin()
    yield rank
    rank.end()


def test_a_rank_waits_at_its_promise_and_takes_the_change_at_the_step(rank: Rank) -> None:
    rank.order(seq=1)
    rank.until(rank.waits)
    limit = rank.status["ask"][2]
    assert rank.tuner.values == {}
    rank.order(seq=1, step=limit + 3)
    rank.until(lambda: rank.status["took"])
    assert rank.status["took"] == [[1, limit + 3, None]]
    assert rank.tuner.values == {"lr": 0.5}


def test_a_withdrawn_change_lets_the_rank_go_on(rank: Rank) -> None:
    rank.order(seq=1)
    rank.until(rank.waits)
    limit = rank.status["ask"][2]
    rank.order()
    rank.until(lambda: rank.tuner.done > limit)
    assert rank.tuner.values == {}


def test_a_rank_that_nobody_answers_declines_and_goes_on(
    rank: Rank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    rank.order(seq=1)
    rank.until(lambda: rank.status["declined"] == [1, 1])
    done = rank.tuner.done
    rank.until(lambda: rank.tuner.done > done + 5)
    rank.order(seq=1, round=2)
    rank.until(lambda: rank.status["declined"] == [1, 2])


def test_a_step_that_is_past_is_made_up_for_and_told(rank: Rank) -> None:
    rank.until(lambda: rank.tuner.done > 20)
    rank.order(seq=1, step=5)
    rank.until(lambda: rank.status["took"])
    ((seq, step, _),) = rank.status["took"]
    assert seq == 1
    assert step > 20


@pytest.mark.parametrize("text", ["", "[]", "{", '{"orders": [{"seq": 1}]}', '{"orders": 3}'])
def test_orders_that_make_no_sense_are_ignored(rank: Rank, text: str) -> None:
    rank.orders_file.write_text(text)
    done = rank.tuner.done
    rank.until(lambda: rank.tuner.done > done + 150)
    rank.order(seq=1, step=rank.tuner.done + 150)
    rank.until(lambda: rank.status["took"])


def test_only_one_process_speaks_for_a_rank(rank: Rank) -> None:
    child = os.fork()
    if child == 0:  # forked while the training goes on: it is not the rank
        rank.tuner.advance()
        os._exit(0 if not rank.tuner.rank else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    other = [
        sys.executable,
        "-c",
        "from tesra.sdk.runtime.tuner import tuner\n"
        "t = tuner(); t.advance(); raise SystemExit(int(t.rank))",
    ]
    done = subprocess.run(other, env=os.environ | {"PYTHONPATH": str(SOURCES)}, check=False)
    assert done.returncode == 0


def test_a_child_steps_for_a_parent_that_only_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = {"seq": 1, "round": 1, "step": 3, "values": {"lr": 0.5}}
    (tmp_path / "orders.json").write_text(json.dumps({"orders": [order]}))
    (tmp_path / "status").touch()
    script = """
        import os, tesra
        tesra.params.declare("drop", 0.5)
        if os.fork() == 0:
            print([tesra.params.get("lr", 0)] + [tesra.step() and tesra.params.get("lr", 0) for _ in range(3)])
            os._exit(0)
        os.wait()
        tesra.params.declare("late", 1)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={
            "PYTHONPATH": str(SOURCES),
            "PYTHONUNBUFFERED": "1",
            "TESRA_TUNING_FILE": str(tmp_path / "orders.json"),
            "TESRA_TUNING_STATUS": str(tmp_path / "status"),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[0, 0, 0.5, 0.5]\n"


def test_without_the_platform_steps_are_counted_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TESRA_TUNING_FILE", raising=False)
    tuner, threads = Tuner(), threading.active_count()
    for _ in range(3):
        tuner.optimiser_stepped()
    params = Params(*live(tuner))
    assert params.declare("drop", 0.5, low=0, high=1) == 0.5
    assert (tuner.done, params.drop, threading.active_count()) == (3, 0.5, threads)


def test_from_the_first_step_of_the_script_on_optimisers_do_not_count() -> None:
    tuner = Tuner()
    for _ in range(3):
        tuner.optimiser_stepped()
        tuner.script_stepped()
    assert tuner.done == 3


@pytest.mark.parametrize(
    ("default", "bounds"),
    [([1], {}), (None, {}), (0.5, {"low": 2, "high": 1}), ("a", {"choices": ["b"]})],
)
def test_a_declaration_that_makes_no_sense_is_refused(default: Any, bounds: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="declare"):
        Params(dict).declare("x", default, **bounds)


# As much of torch as the hook needs.
TORCH = {
    "torch/__init__.py": "",
    "torch/optim/__init__.py": (
        "from torch.optim.optimizer import Optimizer\nfrom torch.optim import lr_scheduler\n"
    ),
    "torch/optim/optimizer.py": """
        before, after = [], []
        register_optimizer_step_pre_hook = before.append
        register_optimizer_step_post_hook = after.append
        class Optimizer:
            def __init__(self, **options):
                self.param_groups = [dict(options, initial_lr=options["lr"])]
            def step(self):
                for hook in before: hook(self, (), {})
                used = self.param_groups[0]["lr"]
                for hook in after: hook(self, (), {})
                return used
    """,
    "torch/optim/lr_scheduler.py": """
        class LRScheduler:
            def __init__(self, optimizer, last_epoch=-1):
                self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
    """,
}


def test_an_unmodified_script_is_watched_from_its_import_on(tmp_path: Path) -> None:
    for name, text in TORCH.items():
        path = tmp_path / "packages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    order = {"seq": 1, "round": 1, "step": 3, "values": {"learning-rate": 0.05}}
    (tmp_path / "orders.json").write_text(json.dumps({"orders": [order]}))
    (tmp_path / "params.json").write_text('{"learning-rate": 0.1}')
    (tmp_path / "status").touch()
    script = """
        import os, sys
        assert "threading" not in sys.modules and "typing" not in sys.modules
        assert "in_rank" not in os.environ["PYTHONPATH"] + str(sys.path)
        from torch.optim import Optimizer, lr_scheduler
        optimiser = Optimizer(lr=0.1, momentum=0.9)
        scheduler = lr_scheduler.LRScheduler(optimiser)
        print([optimiser.step() for _ in range(4)], scheduler.base_lrs)
    """
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import sitecustomize\n" + textwrap.dedent(script)],
        env={
            "PYTHONPATH": f"{tmp_path / 'packages'}:{IN_RANK}",
            RANK_RUNTIME: str(SOURCES),
            "TESRA_PARAMS_FILE": str(tmp_path / "params.json"),
            "TESRA_TUNING_FILE": str(tmp_path / "orders.json"),
            "TESRA_TUNING_STATUS": str(tmp_path / "status"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[0.1, 0.1, 0.05, 0.05] [0.05]\n", "")
    status = json.loads((tmp_path / "status").read_bytes().partition(b"\n")[0][9:])
    assert status["took"] == [[1, 3, None]]
    assert status["where"]["learning-rate"] == ["Optimizer"]
    assert status["found"]["momentum"]["value"] == 0.9
    assert "lr" not in status["found"]
