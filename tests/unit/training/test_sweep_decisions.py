"""What comes next in a sweep, decided from its trials."""

import math

import pytest

from tesra.training.model import RunState
from tesra.training.sweeps import asha, decide
from tesra.training.sweeps.asha import Point, judge, rungs_of
from tesra.training.sweeps.decide import Ended, Reported, settle, to_start
from tesra.training.sweeps.model import (
    Goal,
    Trial,
    TrialState,
    best_first,
    best_of,
)
from tesra.training.sweeps.study import next_points
from tesra.wire.goals import mode_of
from tesra.wire.space import parse_space

LOSS = Goal("loss", "min")
ACC = Goal("acc", "max", "last")


def trial(number: int, state: str = "completed", value: float | None = None, **more) -> Trial:
    return Trial(number, TrialState(state), {"x": float(number)}, value, **more)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("val_loss", "min"),
        ("valLoss", "min"),
        ("eval/top1_acc", "max"),
        ("RMSE", "min"),
        ("f1", "max"),
        ("score", None),
        ("loss_acc", None),
        ("classes", None),
    ],
)
def test_the_name_of_a_metric_may_say_its_direction(name: str, mode: str | None) -> None:
    assert mode_of(name) == mode


def test_a_run_that_reported_the_metric_completes_its_trial() -> None:
    done = settle(LOSS, Ended(RunState.SUCCEEDED), Reported(0.5, 7, 0.6))
    assert (done.state, done.value, done.step, done.reason) == ("completed", 0.5, 7, None)


def test_a_run_without_the_metric_fails_its_trial_and_names_what_was_reported() -> None:
    reported = Reported(others=("val_lossy", "acc"))
    done = settle(Goal("val_loss", "min"), Ended(RunState.SUCCEEDED), reported)
    assert done.state is TrialState.FAILED
    assert "acc, val_lossy" in str(done.reason)
    assert "Did you mean val_lossy?" in str(done.reason)


def test_a_metric_that_ends_as_nan_fails_its_trial() -> None:
    done = settle(LOSS, Ended(RunState.SUCCEEDED), Reported(0.5, 1, math.nan))
    assert (done.state, done.reason) == (TrialState.FAILED, "Its loss ended as nan.")


def test_a_failed_run_fails_its_trial_with_its_own_reason() -> None:
    done = settle(LOSS, Ended(RunState.FAILED, "Exit code 1."), Reported(0.5, 1, 0.5))
    assert (done.state, done.reason) == (TrialState.FAILED, "Exit code 1.")


def test_a_pruned_trial_that_was_done_before_it_heard_is_complete() -> None:
    words = "Stopped early by ASHA at step 3."
    done = settle(LOSS, Ended(RunState.STOPPED, None, words), Reported(0.5, 3, 0.5))
    assert (done.state, done.reason) == (TrialState.PRUNED, words)
    done = settle(LOSS, Ended(RunState.SUCCEEDED, None, words), Reported(0.5, 3, 0.5))
    assert done.state is TrialState.COMPLETED


def test_as_many_trials_start_as_may_run_and_are_left() -> None:
    running = [trial(1, "running"), trial(2)]
    assert to_start(running, wanted=10, parallel=4) == 3
    assert to_start(running, wanted=3, parallel=4) == 1
    assert to_start(running, wanted=2, parallel=4) == 0
    assert to_start([trial(n, "running") for n in range(8)], wanted=10, parallel=4) == 0


def test_a_sweep_whose_first_trials_report_nothing_is_given_up() -> None:
    silent = [trial(n, "failed", reason="It reported no 'loss'.") for n in (1, 2, 3)]
    assert decide.barren(LOSS, silent[:2], wanted=30) is None
    assert "first 3 trials" in str(decide.barren(LOSS, silent, wanted=30))
    assert "It reported no 'loss'." in str(decide.barren(LOSS, silent, wanted=30))
    assert decide.barren(LOSS, [*silent, trial(4, value=1.0)], wanted=30) is None
    assert decide.barren(LOSS, silent[:1], wanted=1) is not None


def test_trials_are_ranked_best_first() -> None:
    trials = [
        trial(1, value=0.5),
        trial(2, "pruned", 0.1),
        trial(3, value=0.2),
        trial(4, "failed"),
        trial(5, "running", 0.05),
    ]
    assert [t.number for t in best_first(LOSS, trials)] == [3, 1, 5, 2, 4]
    assert best_of(LOSS, trials) == trials[2]
    assert best_of(Goal("loss", "max"), trials) == trials[0]
    assert best_of(LOSS, trials[3:]) is None


def points(*values: float) -> list[Point]:
    return [Point(step, value) for step, value in enumerate(values)]


def test_rungs_are_reached_by_the_number_of_reports() -> None:
    assert rungs_of(LOSS, points(5, 4, 6, 1)) == {1: 5, 3: 4}
    assert rungs_of(ACC, points(5, 4, 6, 1)) == {1: 5, 3: 6}
    assert rungs_of(LOSS, []) == {}
    assert rungs_of(LOSS, points(math.nan)) == {1: math.inf}
    assert max(rungs_of(LOSS, points(*range(2000)))) == asha.LAST


def test_the_first_on_a_rung_goes_on_and_one_outside_the_best_third_ends() -> None:
    assert judge(LOSS, points(9.0), known={}, others=[]).pruned is None
    found = judge(LOSS, points(9.0), known={}, others=[{1: 1.0}, {1: 2.0}])
    assert (found.rungs, found.pruned) == ({1: 9.0}, "Stopped early by ASHA at step 0.")
    assert judge(LOSS, points(0.5), known={}, others=[{1: 1.0}, {1: 2.0}]).pruned is None


def test_a_trial_is_judged_once_on_each_rung() -> None:
    others = [{1: 1.0, 3: 1.0}, {1: 2.0}]
    assert judge(LOSS, points(9.0, 9.0), known={1: 9.0}, others=others).pruned is None
    late = judge(LOSS, points(9.0, 9.0, 9.0), known={1: 9.0}, others=others)
    assert late.pruned == "Stopped early by ASHA at step 2."


def test_a_late_look_judges_the_lower_rung_first() -> None:
    found = judge(ACC, points(0.1, 0.2, 0.9), known={}, others=[{1: 0.5}, {1: 0.6}])
    assert (found.rungs, found.pruned) == ({1: 0.1}, "Stopped early by ASHA at step 0.")


SPACE = parse_space({"x": "uniform(0,10)", "n": "int(1,5)", "k": "choice(a,b)"})


def history(count: int) -> list[Trial]:
    drawn = next_points("random", SPACE, LOSS, seed=1, trials=[], count=count)
    return [
        Trial(n, TrialState.COMPLETED, params, abs(float(params["x"]) - 3.0))
        for n, params in enumerate(drawn, start=1)
    ]


@pytest.mark.parametrize("algorithm", ["tpe", "random", "asha"])
def test_the_same_rows_give_the_same_next_points(algorithm) -> None:
    known = [*history(12), trial(13, "failed", reason="")][:12]
    ask = {"seed": 7, "trials": known, "count": 2}
    first = next_points(algorithm, SPACE, LOSS, **ask)
    assert first == next_points(algorithm, SPACE, LOSS, **ask)
    assert first[0] != first[1]
    assert first != next_points(algorithm, SPACE, LOSS, **(ask | {"seed": 8}))


def test_points_asked_for_one_by_one_are_those_asked_for_together() -> None:
    together = next_points("random", SPACE, LOSS, seed=3, trials=[], count=3)
    one = Trial(1, TrialState.RUNNING, together[0])
    assert next_points("random", SPACE, LOSS, seed=3, trials=[one], count=2) == together[1:]


def test_points_at_random_fill_their_ranges_and_leave_none() -> None:
    space = parse_space(
        {
            "real": "uniform(-1,1)",
            "step": "uniform(0,1,step=0.25)",
            "rate": "loguniform(1e-6,1)",
            "whole": "int(0,6,step=3)",
            "width": "logint(1,1000)",
            "kind": "choice(a,b)",
        }
    )
    drawn = next_points("random", space, LOSS, seed=1, trials=[], count=2000)
    seen = {name: {point[name] for point in drawn} for name in space}
    assert -1 <= min(seen["real"]) < -0.98
    assert 0.98 < max(seen["real"]) <= 1
    assert seen["step"] == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert seen["whole"] == {0, 3, 6}
    assert seen["kind"] == {"a", "b"}
    assert 1e-6 <= min(seen["rate"]) < 2e-6
    assert 0.45 < sum(point["rate"] < 1e-3 for point in drawn) / 2000 < 0.55
    assert min(seen["width"]) == 1
    assert 900 < max(seen["width"]) <= 1000
    assert {type(width) for width in seen["width"]} == {int}


def test_tpe_looks_where_the_good_ones_were() -> None:
    known = history(40)
    asked = [
        next_points("tpe", SPACE, LOSS, seed=seed, trials=known, count=1)[0] for seed in range(20)
    ]
    near = sum(abs(float(point["x"]) - 3.0) < 1.5 for point in asked)
    assert near >= 14  # 6 of 20 at random
    assert {type(point["n"]) for point in asked} == {int}


def test_a_grid_goes_on_where_it_was() -> None:
    space = parse_space({"a": "choice(1,2)", "b": "choice(3,4)"})
    known = [Trial(1, TrialState.COMPLETED, {"a": 1, "b": 3}, 0.5)]
    drawn = next_points("grid", space, LOSS, seed=0, trials=known, count=3)
    assert drawn == [{"a": 1, "b": 4}, {"a": 2, "b": 3}, {"a": 2, "b": 4}]
