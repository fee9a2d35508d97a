"""Sweeps from submission to their one bill, on a real database; the site is played by the test."""

import math
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import text

from factories.network import network_on
from factories.sweeping import SweepDouble
from tesra.kit.errors import Invalid, NotFound, PaymentDue
from tesra.kit.ids import BillId, UserId
from tesra.training.model import RunFilter

pytestmark = pytest.mark.postgres


@pytest_asyncio.fixture
async def sweeping(fresh_database) -> AsyncIterator[SweepDouble]:
    async with network_on(await fresh_database()) as network:
        await network.site.enrol(2)
        owner = await network.user()
        await network.project(owner)
        yield SweepDouble(network, owner)


async def bill_of(sweeping: SweepDouble, bill: str | None):
    services = sweeping.network.services
    assert bill is not None
    async with services.database.begin() as tx:
        return await services.billing.bill(tx, sweeping.owner, BillId(bill))


async def test_a_sweep_goes_from_its_first_trial_to_one_bill(sweeping: SweepDouble) -> None:
    sweep = await sweeping.begin(trials=3, parallel=2, run={"params": {"epochs": 1}})
    assert (sweep.state, sweep.mode, sweep.counts["running"]) == ("running", "min", 0)
    assert await sweeping.step() == 2
    first, second = await sweeping.live()
    assert set(first.spec.params) == {"lr", "epochs"}
    assert first.spec.params["lr"] != second.spec.params["lr"]
    await sweeping.complete(first, 0.9, 0.4, 0.5)
    await sweeping.complete(second, 0.9, 0.8)
    assert await sweeping.step() == 1
    (third,) = await sweeping.live()
    await sweeping.complete(third, 0.9, 0.6)
    await sweeping.step()
    done = await sweeping.sweep(sweep.id)
    assert (done.state, done.counts["completed"]) == ("finished", 3)
    assert done.best is not None
    assert (done.best.run, done.best.value, done.best.step) == (first.run, 0.4, 2)
    trials = await sweeping.trials(sweep.id)
    assert [(trial.number, trial.rank) for trial in trials] == [(1, 1), (2, 3), (3, 2)]

    bill = await bill_of(sweeping, done.bill)
    assert bill.run_id == sweep.id
    assert [(line.trial, line.run_id) for line in bill.lines] == [
        (trial.number, trial.run) for trial in trials
    ]
    assert bill.amount_cny == done.amount_cny == "0.01"  # rounded up once, not three times
    services = sweeping.network.services
    async with services.database.begin() as tx:
        (only,) = await services.billing.bills(tx, sweeping.owner)
        runs = await services.training.runs(tx, sweeping.owner, RunFilter(sweep=sweep.id))
        others = await services.training.runs(tx, sweeping.owner, RunFilter(trials=False))
    assert only.id == bill.id
    assert {run.bill for run in runs} == {bill.id}
    assert {run.trial for run in runs} == {1, 2, 3}
    assert others == []


async def test_the_state_is_the_same_after_any_number_of_steps(sweeping: SweepDouble) -> None:
    sweep = await sweeping.begin(trials=4, parallel=2)
    for _ in range(3):
        await sweeping.step()
    assert len(await sweeping.live()) == 2
    for trial in await sweeping.live():
        await sweeping.complete(trial, 0.5)
    for _ in range(3):
        await sweeping.step()
    assert len(await sweeping.trials(sweep.id)) == 4


async def test_the_same_seed_tries_the_same_points(sweeping: SweepDouble) -> None:
    drawn = []
    for _ in range(2):
        sweep = await sweeping.begin(trials=2, parallel=2, seed=5, algorithm="random")
        await sweeping.step()
        drawn.append([trial.params for trial in await sweeping.trials(sweep.id)])
        await sweeping.stop(sweep.id)
        await sweeping.step()
    assert drawn[0] == drawn[1]


async def test_a_grid_ends_when_all_its_points_are_tried(sweeping: SweepDouble) -> None:
    space = {"a": "choice(1,2)", "b": "choice(x,y)"}
    sweep = await sweeping.begin(space=space, algorithm="grid", trials=20, parallel=2)
    assert sweep.trials == 4
    for _ in range(3):
        await sweeping.step()
        for trial in await sweeping.live():
            await sweeping.complete(trial, 0.5)
    done = await sweeping.sweep(sweep.id)
    assert done.state == "finished"
    tried = {tuple(trial.params.values()) for trial in await sweeping.trials(sweep.id)}
    assert tried == {(1, "x"), (1, "y"), (2, "x"), (2, "y")}
    with pytest.raises(Invalid, match="0 points left"):
        await sweeping.resume(sweep.id, 1)


async def test_a_sweep_in_which_no_trial_reports_the_metric_is_given_up(
    sweeping: SweepDouble,
) -> None:
    sweep = await sweeping.begin(metric="val_loss", trials=30, parallel=2)
    for _ in range(3):
        await sweeping.step()
        for trial in await sweeping.live():
            await sweeping.start(trial)
            await sweeping.report(trial, 0.5, name="valid_loss")
            await sweeping.end(trial)
    await sweeping.step()
    done = await sweeping.sweep(sweep.id)
    assert done.state == "failed"
    assert "Did you mean valid_loss?" in str(done.reason)
    assert len(await sweeping.trials(sweep.id)) == 4
    assert (await bill_of(sweeping, done.bill)).micro_th > 0


async def test_a_nan_fails_its_trial_and_not_the_sweep(sweeping: SweepDouble) -> None:
    sweep = await sweeping.begin(trials=2, parallel=2)
    await sweeping.step()
    first, second = await sweeping.live()
    await sweeping.complete(first, 0.5, math.nan)
    await sweeping.complete(second, 0.7)
    await sweeping.step()
    done = await sweeping.sweep(sweep.id)
    assert (done.state, done.counts["failed"], done.counts["completed"]) == ("finished", 1, 1)
    assert done.best is not None
    assert done.best.value == 0.7


async def test_asha_ends_what_is_not_promising_and_its_device_goes_to_the_next(
    sweeping: SweepDouble,
) -> None:
    sweep = await sweeping.begin(trials=4, parallel=2, algorithm="asha")
    await sweeping.step()
    good, bad = await sweeping.live()
    for trial in (good, bad):
        await sweeping.start(trial)
    await sweeping.report(good, 0.1)
    await sweeping.step()
    await sweeping.report(bad, 0.9)
    await sweeping.step()
    assert [one.run for one in await sweeping.live()] == [good.run]
    (asked,) = [one for one in await sweeping.network.site.assignments() if one.stop]
    assert (asked.run, asked.stop) == (bad.run, "pruned")
    await sweeping.end(asked, outcome="stopped")
    assert await sweeping.step() == 1
    pruned = (await sweeping.trials(sweep.id))[1]
    assert (pruned.state, pruned.value) == ("pruned", 0.9)
    assert pruned.reason == "Stopped early by ASHA at step 1."
    run = await sweeping.network.run(sweeping.owner, bad.run)
    assert (run.state, run.reason) == ("stopped", "Stopped early by ASHA at step 1.")


async def test_stopping_a_sweep_stops_its_trials_and_bills_what_they_used(
    sweeping: SweepDouble,
) -> None:
    sweep = await sweeping.begin(trials=10, parallel=4)
    assert sweep.notes == [
        "4 trials at a time need 4 devices, and 2 are online: 2 at a time will run,"
        " the others wait."
    ]
    await sweeping.step()
    for trial in await sweeping.live():
        await sweeping.start(trial)
    await sweeping.stop(sweep.id)
    await sweeping.step()
    assert (await sweeping.sweep(sweep.id)).state == "stopping"
    for trial in await sweeping.network.site.assignments():
        assert trial.stop == "user"
        await sweeping.end(trial, outcome="stopped")
    await sweeping.step()
    done = await sweeping.sweep(sweep.id)
    assert (done.state, done.counts["stopped"], done.reason) == (
        "stopped",
        4,
        "Stopped by its owner.",
    )
    assert len((await bill_of(sweeping, done.bill)).lines) == 2
    assert (await sweeping.stop(sweep.id)).state == "stopped"


async def test_a_stopped_sweep_goes_on_with_a_bill_of_its_own(sweeping: SweepDouble) -> None:
    sweep = await sweeping.begin(trials=1, parallel=1, run={"secrets": {"KEY": "hush"}})
    await sweeping.step()
    (trial,) = await sweeping.live()
    await sweeping.complete(trial, 0.5)
    await sweeping.step()
    first = (await sweeping.sweep(sweep.id)).bill
    with pytest.raises(PaymentDue):
        await sweeping.resume(sweep.id, 1, secrets={"KEY": "hush"})
    await sweeping.network.pay(sweeping.owner, first)
    with pytest.raises(Invalid, match="KEY"):
        await sweeping.resume(sweep.id, 1)
    await sweeping.resume(sweep.id, 1, secrets={"KEY": "hush"})
    await sweeping.step()
    (trial,) = await sweeping.live()
    assert trial.spec.secrets == {"KEY": "hush"}
    await sweeping.complete(trial, 0.4)
    await sweeping.step()
    done = await sweeping.sweep(sweep.id)
    assert (done.state, done.trials, len(done.bills)) == ("finished", 2, 2)
    assert [line.trial for line in (await bill_of(sweeping, done.bill)).lines] == [2]
    assert done.best is not None
    assert done.best.number == 2


async def test_a_sweep_stops_at_its_cap(sweeping: SweepDouble) -> None:
    sweep = await sweeping.begin(trials=20, parallel=1, max_cost_cny="0.01")
    for _ in range(6):
        await sweeping.step()
        for trial in await sweeping.live():
            await sweeping.start(trial)
            await sweeping.report(trial, 0.5)
            await _age(sweeping, trial.attempt)
            await sweeping.end(trial, ms=600_000)
    done = await sweeping.sweep(sweep.id)
    assert done.state == "stopped"
    assert done.reason == "Stopped at its cap of CNY 0.01."
    assert done.amount_cny == "0.01"
    assert "Capped at CNY 0.01" in str((await bill_of(sweeping, done.bill)).note)
    assert len(await sweeping.trials(sweep.id)) == 1


async def _age(sweeping: SweepDouble, attempt: str) -> None:
    async with sweeping.network.services.database.begin() as tx:
        await tx.execute(
            text("UPDATE attempts SET created_at = created_at - interval '1 h' WHERE id = :a"),
            {"a": attempt},
        )


async def test_a_sweep_waits_for_payment_and_says_so(sweeping: SweepDouble) -> None:
    other = await sweeping.network.submit(sweeping.owner)
    sweep = await sweeping.begin(trials=1, parallel=1)
    await sweeping.network.dispatch()
    (run,) = await sweeping.live()
    await sweeping.network.site.train(run)
    await sweeping.step()
    waiting = await sweeping.sweep(sweep.id)
    assert waiting.state == "running"
    assert str(waiting.reason).startswith("Waits: Bill bil_")
    await sweeping.network.pay(
        sweeping.owner, (await sweeping.network.run(sweeping.owner, other.id)).bill
    )
    assert await sweeping.step() == 1
    assert (await sweeping.sweep(sweep.id)).reason is None


@pytest.mark.parametrize(
    ("wishes", "complaint"),
    [
        ({"trials": 0}, "from 1 to 2000 trials, not 0"),
        ({"parallel": 0}, "not 0"),
        ({"space": {"lr": "uniform(1,0)"}}, "at character 11"),
        ({"space": {"lr": "0.1"}}, "all trials would be the same"),
        ({"space": {}}, "all trials would be the same"),
        ({"algorithm": "grid"}, "continuous"),
        ({"algorithm": "grid", "space": {"n": "int(1,9999)"}}, "9999 points"),
        ({"metric": "score"}, "not clear"),
        ({"run": {"params": {"lr": 1}}}, "both fixed and searched"),
        ({"run": {"devices": 3}}, "3 devices"),
        ({"max_cost_cny": "-1"}, "not an amount"),
    ],
)
async def test_a_sweep_that_cannot_be_is_refused(
    sweeping: SweepDouble, wishes: dict, complaint: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await sweeping.begin(**wishes)
    assert complaint in refused.value.detail


async def test_a_parameter_that_the_script_does_not_know_is_told(sweeping: SweepDouble) -> None:
    code = "import argparse\np = argparse.ArgumentParser()\np.add_argument('--learning-rate')\nprint(p.parse_args())\n"
    await sweeping.network.project(sweeping.owner, "cli", train=code)
    space = {"learning_rte": "uniform(0,1)"}
    sweep = await sweeping.begin(run={"project": "cli"}, space=space, trials=1, parallel=1)
    (note,) = sweep.notes
    assert "declares no --learning_rte" in note


async def test_a_sweep_of_somebody_else_does_not_exist(sweeping: SweepDouble) -> None:
    sweep = await sweeping.begin(trials=1)
    stranger = SweepDouble(sweeping.network, UserId(await sweeping.network.user("eve")))
    for ask in (stranger.sweep, stranger.trials, stranger.stop):
        with pytest.raises(NotFound):
            await ask(sweep.id)
    with pytest.raises(NotFound):
        await stranger.resume(sweep.id, 1)
