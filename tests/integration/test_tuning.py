"""Changing a run's parameters, on a real database; the site is played by the test."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from factories.network import NetworkDouble, network_on
from tesra.kit.errors import Conflict, Invalid, NotFound
from tesra.kit.ids import RunId, UserId
from tesra.training.tuning.model import (
    NoCheckpointBefore,
    NothingToChange,
    ParameterUnknown,
    RunOver,
    ValueRefused,
)
from tesra.wire.site import Checkpoint, Ended, Started
from tesra.wire.tuning import FoundParameter, RankTook, Tuned, TunedChange, Tuning

pytestmark = pytest.mark.postgres

WISHES: dict[str, Any] = {
    "params": {"lr": 0.1, "layers": 2},
    "ranges": {"lr": {"low": 1e-5, "high": 1.0}},
}


@pytest_asyncio.fixture
async def network(fresh_database) -> AsyncIterator[NetworkDouble]:
    async with network_on(await fresh_database()) as network:
        await network.site.enrol(2)
        yield network


class Owner:
    """A user with a run that is queued."""

    def __init__(self, network: NetworkDouble, user: UserId, run: RunId) -> None:
        self.network, self.user, self.run = network, user, run

    @classmethod
    async def of(cls, network: NetworkDouble) -> "Owner":
        ann = await network.user()
        await network.project(ann)
        run = await network.submit(ann, devices=2, **WISHES)
        return cls(network, ann, RunId(run.id))

    async def tune(self, **values: Any) -> Tuning:
        tuning = self.network.services.tuning
        async with self.network.services.database.begin() as tx:
            return await tuning.tune(tx, self.user, self.run, values)

    async def withdraw(self, seq: int | None = None) -> Tuning:
        tuning = self.network.services.tuning
        async with self.network.services.database.begin() as tx:
            return await tuning.withdraw(tx, self.user, self.run, seq)

    async def tuning(self) -> Tuning:
        async with self.network.services.database.begin() as tx:
            return await self.network.services.tuning.show(tx, self.user, self.run)

    async def events(self) -> list[str]:
        async with self.network.services.database.begin() as tx:
            found = await self.network.services.training.events(tx, self.user, self.run)
        return [event.text for event in found if event.kind == "tuning"]

    async def start(self) -> Any:
        await self.network.dispatch()
        (assignment,) = await self.network.site.assignments()
        await self.network.site.say(assignment, Started(at=datetime.now(UTC)))
        return assignment

    async def rollback(self, seq: int | None = None) -> Tuning:
        tuning = self.network.services.tuning
        async with self.network.services.database.begin() as tx:
            return await tuning.rollback(tx, self.user, self.run, seq)

    async def checkpoint(self, assignment: Any, number: int = 1) -> None:
        """One that is finished now."""
        commit = await self.network.store(self.user, self.run, {"state.bin": str(number)})
        fact = Checkpoint(
            number=number,
            snapshot=commit,
            ran_ms=0,
            finished_at=datetime.now(UTC),
            files=1,
            size_bytes=1,
        )
        assert await self.network.site.say(assignment, fact)

    async def say(self, assignment: Any, **facts: Any) -> None:
        await self.network.site.say(assignment, Tuned(**facts))


def made(seq: int, step: int, ranks: int = 2) -> TunedChange:
    took = [RankTook(rank=rank, step=step) for rank in range(ranks)]
    return TunedChange(seq=seq, state="applied", step=step, ranks=took)


async def test_a_change_goes_to_the_site_and_comes_back_into_the_timeline(
    network: NetworkDouble,
) -> None:
    ann = await Owner.of(network)
    assignment = await ann.start()
    asked = (await ann.tune(lr=0.5)).changes[-1]
    assert (asked.state, asked.before) == ("waiting", {"lr": 0.1})
    (told,) = await network.site.assignments()
    assert [(order.seq, order.values) for order in told.tuning] == [(1, {"lr": 0.5})]
    decided = TunedChange(seq=1, state="decided", step=120)
    await ann.say(assignment, changes=[decided], stepping=[0, 1])
    assert (await ann.tuning()).changes[0].reason == "All ranks make it at step 120."
    await ann.say(assignment, changes=[made(1, 120)], stepping=[0, 1])
    await ann.say(assignment, changes=[made(1, 120)], stepping=[0, 1])
    tuning = await ann.tuning()
    assert (tuning.changes[0].state, tuning.changes[0].step) == ("applied", 120)
    assert tuning.parameters[0].value == 0.5
    assert (await network.site.assignments())[0].tuning == []
    assert await ann.events() == [
        "Change 1 asked for: lr=0.5.",
        "Change 1, lr=0.5: made at step 120 on 2 ranks.",
    ]


async def test_a_rank_that_was_late_is_named(network: NetworkDouble) -> None:
    ann = await Owner.of(network)
    assignment = await ann.start()
    await ann.tune(lr=0.5)
    took = [RankTook(rank=0, step=120), RankTook(rank=1, step=130)]
    change = TunedChange(seq=1, state="applied", step=120, ranks=took)
    await ann.say(assignment, changes=[change])
    assert (await ann.tuning()).changes[0].reason == (
        "made at step 120 on 1 rank; rank 1 was late and made it at step 130."
    )


async def test_what_can_not_be_is_refused(network: NetworkDouble) -> None:
    ann = await Owner.of(network)
    with pytest.raises(ParameterUnknown):
        await ann.tune(width=3)
    with pytest.raises(ValueRefused):
        await ann.tune(lr=2)
    with pytest.raises(Invalid):
        await network.submit(ann.user, params={"lr": 5.0}, ranges=WISHES["ranges"])
    bob = Owner(network, await network.user("bob"), ann.run)
    for attempt in (bob.tune(lr=0.5), bob.withdraw(1), bob.tuning()):
        with pytest.raises(NotFound):
            await attempt
    assignment = await ann.start()
    await network.site.say(assignment, Ended(outcome="succeeded", exit_code=0))
    with pytest.raises(RunOver) as refused:
        await ann.tune(lr=0.5)
    assert "succeeded" in refused.value.detail


async def test_a_queued_run_starts_with_the_change(network: NetworkDouble) -> None:
    ann = await Owner.of(network)
    await ann.tune(lr=0.5)
    assignment = await ann.start()
    assert (assignment.spec.params, assignment.tuning) == ({"lr": 0.5, "layers": 2}, [])
    (change,) = (await ann.tuning()).changes
    assert (change.state, change.step) == ("applied", 0)


async def test_a_change_is_withdrawn_while_it_waits_and_told_when_that_was_too_late(
    network: NetworkDouble,
) -> None:
    ann = await Owner.of(network)
    assignment = await ann.start()
    await ann.tune(lr=0.5)
    assert (await ann.withdraw()).changes[0].state == "withdrawn"
    assert (await network.site.assignments())[0].tuning == []
    with pytest.raises(NothingToChange):
        await ann.withdraw()
    await ann.say(assignment, changes=[made(1, 120)])
    change = (await ann.tuning()).changes[0]
    assert change.state == "applied"
    assert "withdrawn too late" in str(change.reason)


async def test_the_next_attempt_starts_with_what_was_changed(network: NetworkDouble) -> None:
    ann = await Owner.of(network)
    assignment = await ann.start()
    await ann.tune(lr=0.5)
    await ann.say(assignment, changes=[made(1, 120)])
    await ann.tune(layers=5)  # still waits when the node is lost
    await network.site.say(assignment, Ended(outcome="lost", reason="the node is gone"))
    again = await ann.start()
    assert again.spec.params == {"lr": 0.5, "layers": 5}
    assert again.tuning == []
    states = [
        (change.state, change.attempt, change.step) for change in (await ann.tuning()).changes
    ]
    assert states == [("applied", 1, 120), ("applied", 2, 0)]


async def test_a_change_that_still_waits_when_the_run_ends_was_not_made(
    network: NetworkDouble,
) -> None:
    ann = await Owner.of(network)
    assignment = await ann.start()
    await ann.tune(lr=0.5)
    assert "tesra.step()" in str((await ann.tuning()).changes[0].reason)
    await network.site.say(assignment, Ended(outcome="succeeded", exit_code=0))
    change = (await ann.tuning()).changes[0]
    assert (change.state, change.reason) == ("failed", "The run ended before the change was made.")
    with pytest.raises(Conflict):
        await ann.withdraw()


async def test_what_the_script_declares_can_be_changed(network: NetworkDouble) -> None:
    ann = await Owner.of(network)
    assignment = await ann.start()
    drop = FoundParameter(name="drop", value=0.5, low=0, high=1, origin="script")
    await ann.say(assignment, found=[drop], readers=["tesra.params"], stepping=[0])
    tuning = await ann.tuning()
    assert [one.name for one in tuning.parameters] == ["lr", "layers", "drop"]
    assert tuning.stepping == [0]
    assert tuning.parameters[0].where == ["tesra.params"]
    with pytest.raises(ValueRefused):
        await ann.tune(drop=1.5)
    assert (await ann.tune(drop=0.25)).changes[-1].before == {"drop": 0.5}


async def test_a_rollback_begins_again_before_the_change_with_the_values_of_then(
    network: NetworkDouble,
) -> None:
    ann = await Owner.of(network)
    assignment = await ann.start()
    await ann.tune(lr=0.2)
    await ann.say(assignment, changes=[made(1, 50)], stepping=[0, 1])
    await ann.checkpoint(assignment)
    await ann.tune(lr=0.5)
    await ann.say(assignment, changes=[made(1, 50), made(2, 120)])
    await ann.tune(layers=5)
    await ann.rollback()
    (told,) = await network.site.assignments()
    assert (told.stop, told.tuning) == ("restart", [])
    await network.site.say(told, Ended(outcome="stopped", exit_code=143))
    again = await ann.start()
    assert again.spec.params == {"lr": 0.2, "layers": 2}
    assert again.resume is not None
    tuning = await ann.tuning()
    assert [change.state for change in tuning.changes] == ["applied", "rolled_back", "withdrawn"]
    assert tuning.parameters[0].value == 0.2
    assert "Rolled back to checkpoint 1, before change 2." in await ann.events()


async def test_without_an_earlier_checkpoint_a_rollback_says_how_to_set_the_value_back(
    network: NetworkDouble,
) -> None:
    ann = await Owner.of(network)
    assignment = await ann.start()
    with pytest.raises(NothingToChange):
        await ann.rollback()
    await ann.tune(lr=0.5, layers=3)
    await ann.say(assignment, changes=[made(1, 120)])
    await ann.checkpoint(assignment)
    with pytest.raises(NoCheckpointBefore) as refused:
        await ann.rollback()
    assert f"tesra tune {ann.run} lr=0.1 layers=2" in str(refused.value.way_out)
    assert (await ann.tuning()).changes[0].state == "applied"


async def test_what_a_start_does_not_bring_back_is_made_again(network: NetworkDouble) -> None:
    ann = await Owner.of(network)
    assignment = await ann.start()
    found = [
        FoundParameter(name="drop", value=0.5, origin="script"),
        FoundParameter(name="momentum", value=0.9, origin="optimiser"),
    ]
    await ann.say(assignment, found=found, stepping=[0, 1])
    await ann.tune(drop=0.25, momentum=0.5, layers=3)
    await ann.say(assignment, found=found, changes=[made(1, 120)])
    await network.site.say(assignment, Ended(outcome="lost", reason="the node is gone"))
    scratch = await ann.start()
    assert scratch.spec.params == {"lr": 0.1, "layers": 3}
    (told,) = (await network.site.assignments())[0].tuning
    assert (told.seq, told.values) == (2, {"drop": 0.25, "momentum": 0.5})
    await ann.say(scratch, found=found, changes=[made(2, 3)])
    await ann.checkpoint(scratch)
    await ann.tune(lr=0.3)
    await ann.say(scratch, found=found, changes=[made(2, 3), made(3, 9)])
    await network.site.say(scratch, Ended(outcome="lost", reason="the node is gone"))
    resumed = await ann.start()
    assert resumed.resume is not None
    assert resumed.spec.params == {"lr": 0.3, "layers": 3}
    (told,) = (await network.site.assignments())[0].tuning
    assert told.values == {"drop": 0.25, "lr": 0.3}  # momentum is in the checkpoint
