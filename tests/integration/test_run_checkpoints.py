"""Checkpoints on the server: what is kept, what a run goes on from, and what is billed."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text

from factories.network import NetworkDouble, network_on
from tesra.kit.errors import Conflict, Invalid, NotFound
from tesra.kit.ids import RunId, UserId
from tesra.training.checkpoints.service import CheckpointService
from tesra.wire.checkpoints import ResumeRequest
from tesra.wire.drive import SnapshotCommit
from tesra.wire.site import Assignment, Checkpoint, Ended, Started, Usage
from tesra.wire.training import ResumedFrom, Run

pytestmark = pytest.mark.postgres
HOUR_MS = 3_600_000


@dataclass
class Training:
    """One run of one device that the test takes through its attempts, in hours of use."""

    network: NetworkDouble
    owner: UserId
    run: str
    stored: int = 0

    async def place(self) -> Assignment:
        await self.network.dispatch()
        (assignment,) = await self.network.site.assignments()
        await self._age(assignment)
        await self.network.site.say(assignment, Started(at=datetime.now(UTC)))
        return assignment

    async def use(self, assignment: Assignment, ms: int) -> None:
        """In records of ten minutes, as long as they may be."""
        begin = datetime.now(UTC)
        for number, start_ms in enumerate(range(0, ms, 600_000), start=1):
            usage = Usage(
                number=number,
                started_at=begin + timedelta(milliseconds=start_ms),
                duration_ms=min(600_000, ms - start_ms),
            )
            await self.network.site.say(assignment, usage)

    async def checkpoint(
        self, assignment: Assignment, ran_ms: int, number: int = 1, *, resumed: bool = True
    ) -> Checkpoint:
        self.stored += 1
        fact = Checkpoint(
            number=number,
            snapshot=await self.upload({"checkpoints/model.bin": str(self.stored)}),
            ran_ms=ran_ms,
            finished_at=datetime.now(UTC),
            files=1,
            size_bytes=1,
            newest="checkpoints/model.bin",
            step=self.stored,
            resumed=resumed and assignment.resume is not None,
        )
        await self.network.site.say(assignment, fact)
        return fact

    async def end(self, assignment: Assignment, outcome: Any, *, resumed: bool = True) -> Run:
        """``resumed``: its script has read what it was to go on from, if anything."""
        ended = Ended(
            outcome=outcome,
            reason="so it was",
            resumed=resumed and assignment.resume is not None,
        )
        await self.network.site.say(assignment, ended)
        return await self.now()

    async def now(self) -> Run:
        return await self.network.run(self.owner, self.run)

    async def upload(self, files: dict[str, str]) -> SnapshotCommit:
        return await self.network.store(self.owner, self.run, files)

    async def _age(self, assignment: Assignment) -> None:
        """Usage is never more than the time since the attempt was placed."""
        async with self.network.services.database.begin() as tx:
            older = "UPDATE attempts SET created_at = now() - interval '9 hours' WHERE id = :a"
            await tx.execute(text(older), {"a": assignment.attempt})

    async def lines(self) -> list[tuple[int, int, int | None]]:
        """Attempt, milliseconds and limit of each line of the bill."""
        run = await self.now()
        async with self.network.services.database.begin() as tx:
            bill = await self.network.services.billing.bill(tx, self.owner, run.bill)  # type: ignore[arg-type]
        return [(line.attempt, line.duration_ms, line.until_ms) for line in bill.lines]


@pytest_asyncio.fixture
async def network(fresh_database) -> AsyncIterator[NetworkDouble]:
    async with network_on(await fresh_database()) as network:
        await network.site.enrol(1)
        yield network


@pytest_asyncio.fixture
async def training(network: NetworkDouble) -> Training:
    ann = await network.user()
    await network.project(ann)
    run = await network.submit(ann)
    return Training(network, ann, run.id)


@pytest.fixture
def checkpoints(network: NetworkDouble) -> CheckpointService:
    return CheckpointService(network.services.domains)


async def test_a_lost_run_goes_on_from_its_last_checkpoint_and_pays_each_step_once(
    training: Training,
) -> None:
    first = await training.place()
    assert first.resume is None
    await training.use(first, 2 * HOUR_MS)
    await training.checkpoint(first, HOUR_MS // 2)
    await training.checkpoint(first, HOUR_MS * 3 // 2, number=2)
    queued = await training.end(first, "lost")
    assert queued.reason == "Queued again from checkpoint 2: so it was"
    assert (queued.restarts, queued.th) == (1, "1.5"), "what is kept is on the bill to come"
    second = await training.place()
    assert second.resume is not None
    assert (second.resume.number, second.resume.newest) == (2, "checkpoints/model.bin")
    await training.use(second, HOUR_MS // 2)
    done = await training.end(second, "succeeded")
    assert (done.state, done.th, done.amount_cny) == ("succeeded", "2", "1.00")
    assert await training.lines() == [
        (1, HOUR_MS * 3 // 2, HOUR_MS * 3 // 2),
        (2, HOUR_MS // 2, None),
    ]


async def test_an_attempt_that_stored_nothing_goes_on_from_where_it_began_itself(
    training: Training,
) -> None:
    first = await training.place()
    await training.use(first, HOUR_MS)
    await training.checkpoint(first, 600_000)
    await training.end(first, "lost")
    second = await training.place()
    await training.use(second, HOUR_MS)
    assert (await training.now()).th == "1.166666"
    await training.end(second, "lost")
    third = await training.place()
    assert third.resume is not None
    assert third.resume.number == 1
    await training.use(third, 300_000)
    await training.end(third, "stopped")
    assert await training.lines() == [(1, 600_000, 600_000), (3, 300_000, None)]


async def test_a_run_that_is_given_up_pays_up_to_its_last_checkpoint(training: Training) -> None:
    first = await training.place()
    await training.use(first, HOUR_MS)
    await training.checkpoint(first, 600_000)
    await training.end(first, "lost")
    for _ in range(3):
        again = await training.place()
        await training.use(again, HOUR_MS)
        await training.end(again, "lost")
    run = await training.now()
    assert (run.state, run.restarts, run.attempt) == ("failed", 3, 4)
    assert str(run.reason).startswith(
        "Given up after 4 attempts, charged up to the last checkpoint"
    )
    assert "tesra resume" in str(run.reason)
    assert await training.lines() == [(1, 600_000, 600_000)]


async def test_without_restarts_the_first_loss_is_the_end(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    run = await network.submit(ann, max_restarts=0)
    training = Training(network, ann, run.id)
    lost = await training.end(await training.place(), "lost")
    assert (lost.state, lost.max_restarts, lost.amount_cny) == ("failed", 0, "0.00")
    assert str(lost.reason).startswith("Given up after 1 attempt, at no charge")


async def test_a_queued_run_that_is_stopped_pays_for_what_is_kept(training: Training) -> None:
    first = await training.place()
    await training.use(first, HOUR_MS)
    await training.checkpoint(first, 600_000)
    await training.end(first, "lost")
    stopped = await training.network.stop(training.owner, training.run)
    assert stopped.state == "stopped"
    assert await training.lines() == [(1, 600_000, 600_000)]


async def test_a_script_that_begins_anew_pays_nothing_for_what_it_did_before(
    training: Training,
) -> None:
    first = await training.place()
    await training.use(first, HOUR_MS)
    await training.checkpoint(first, 600_000)
    await training.end(first, "lost")
    second = await training.place()
    await training.use(second, 1_200_000)
    await training.checkpoint(second, 900_000, resumed=False)
    await training.end(second, "lost", resumed=False)
    third = await training.place()
    assert third.resume is not None
    assert third.resume.number == 2
    await training.use(third, 300_000)
    await training.end(third, "succeeded")
    assert await training.lines() == [(2, 900_000, 900_000), (3, 300_000, None)]


async def test_a_failed_run_pays_for_all_that_its_script_did(training: Training) -> None:
    first = await training.place()
    await training.use(first, HOUR_MS)
    await training.checkpoint(first, 600_000)
    await training.end(first, "failed")
    assert await training.lines() == [(1, HOUR_MS, None)]


async def test_a_repeated_checkpoint_changes_nothing_and_an_incomplete_one_is_not_kept(
    training: Training, checkpoints: CheckpointService
) -> None:
    first = await training.place()
    fact = await training.checkpoint(first, 1000)
    await training.network.site.say(first, fact)
    torn = fact.model_copy(
        update={
            "number": 2,
            "snapshot": fact.snapshot.model_copy(update={"root": "ab" * 32}),
        }
    )
    await training.network.site.say(first, torn)
    async with training.network.services.database.begin() as tx:
        listed = await checkpoints.of_run(tx, RunId(training.run))
    assert [one.number for one in listed] == [1]
    queued = await training.end(first, "lost")
    assert str(queued.reason).startswith("Queued again from checkpoint 1")


async def test_the_last_three_are_kept_and_those_that_something_refers_to(
    training: Training, checkpoints: CheckpointService
) -> None:
    first = await training.place()
    database = training.network.services.database
    for number in range(1, 7):
        await training.checkpoint(first, number, number=number)
        if number == 2:
            async with database.begin() as tx:
                found = await checkpoints.find(tx, RunId(training.run), 2)
                await checkpoints.pin(tx, found.id)
    async with database.begin() as tx:
        listed = await checkpoints.of_run(tx, RunId(training.run))
    assert [(one.number, one.state) for one in listed] == [
        (6, "kept"),
        (5, "kept"),
        (4, "kept"),
        (3, "superseded"),
        (2, "kept"),
        (1, "superseded"),
    ]


async def test_a_restart_goes_on_from_the_chosen_checkpoint_and_is_no_loss(
    training: Training, checkpoints: CheckpointService
) -> None:
    first = await training.place()
    await training.use(first, HOUR_MS)
    await training.checkpoint(first, 1_000)
    await training.checkpoint(first, 2_000, number=2)
    run, database = RunId(training.run), training.network.services.database
    async with database.begin() as tx:
        chosen = await checkpoints.find(tx, run, 1)
        await checkpoints.restart(tx, run, checkpoint=chosen.id, why="lr is set back.")
    (asked,) = await training.network.site.assignments()
    assert asked.stop == "restart"
    assert (await training.now()).phase == "restarting"
    queued = await training.end(first, "failed")  # it died of SIGTERM
    assert (queued.state, queued.restarts) == ("queued", 0)
    assert queued.reason == "Queued again: lr is set back."
    second = await training.place()
    assert second.resume is not None
    assert (second.resume.number, second.stop) == (1, None)
    await training.end(second, "lost")
    third = await training.place()
    assert third.resume is not None
    assert third.resume.number == 1, "not what was stored after the change that was taken back"
    await training.use(third, HOUR_MS)
    await training.end(third, "succeeded")
    assert await training.lines() == [(1, HOUR_MS, None), (3, HOUR_MS, None)]


async def test_a_checkpoint_before_a_moment_is_found(
    training: Training, checkpoints: CheckpointService
) -> None:
    first = await training.place()
    run = RunId(training.run)
    one = await training.checkpoint(first, 1_000)
    await training.checkpoint(first, 2_000, number=2)
    async with training.network.services.database.begin() as tx:
        found = await checkpoints.before(tx, run, one.finished_at)
        assert found is not None
        assert found.number == 1
        assert await checkpoints.before(tx, run, one.finished_at - timedelta(seconds=1)) is None


async def test_a_run_at_its_cap_gets_time_to_save(training: Training) -> None:
    first = await training.place()
    assert first.grace_s == 15
    async with training.network.services.database.begin() as tx:
        await tx.execute(text("UPDATE runs SET stop = 'cap'"))
    (asked,) = await training.network.site.assignments()
    assert (asked.stop, asked.grace_s) == ("cap", 60)


async def test_a_cap_counts_what_is_kept_of_earlier_attempts(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    run = await network.submit(ann, max_time_s=3600)
    training = Training(network, ann, run.id)
    first = await training.place()
    assert first.limit is not None
    await training.use(first, 1_800_000)
    await training.checkpoint(first, 1_200_000)
    await training.end(first, "lost")
    second = await training.place()
    assert second.limit is not None
    kept_s = (first.limit.stop_after_ms - second.limit.stop_after_ms) / 1000
    assert kept_s == 1200


async def test_a_run_is_resumed_by_hand_with_other_parameters(training: Training) -> None:
    network, ann = training.network, training.owner
    first = await training.place()
    await training.use(first, 600_000)
    await training.checkpoint(first, 1_000)
    await training.checkpoint(first, 2_000, number=2)
    failed = await training.end(first, "failed")
    await network.pay(ann, failed.bill)
    resumed = await resume(network, ann, training.run, params={"lr": 0.5}, max_restarts=1)
    assert resumed.id != training.run
    assert resumed.resumed_from == ResumedFrom(run=training.run, checkpoint=2)
    assert (resumed.snapshot, resumed.engine) == (failed.snapshot, failed.engine)
    assert (resumed.params, resumed.max_restarts) == ({"lr": 0.5}, 1)
    again = Training(network, ann, resumed.id)
    second = await again.place()
    assert second.resume is not None
    assert (second.resume.number, second.resume.newest) == (2, "checkpoints/model.bin")
    await again.use(second, 300_000)
    lost = await again.end(second, "lost")
    assert (lost.th, lost.restarts) == ("0", 1), "what the first run did is on its own bill"
    third = await again.place()
    assert third.resume == second.resume
    await again.use(third, 60_000)
    await again.end(third, "succeeded")
    assert await again.lines() == [(2, 60_000, None)]


async def resume(network: NetworkDouble, owner: UserId, run: str, **ask: Any) -> Run:
    resuming = network.services.resuming
    resumption = await resuming.check(owner, RunId(run), ResumeRequest(**ask))
    async with network.services.database.begin() as tx:
        return await resuming.submit(tx, owner, resumption)


async def test_what_cannot_be_resumed_is_refused_with_the_way_out(training: Training) -> None:
    network, ann = training.network, training.owner
    with pytest.raises(Conflict) as live:
        await resume(network, ann, training.run)
    assert "tesra stop" in str(live.value.way_out)
    first = await training.place()
    await training.end(first, "failed")
    with pytest.raises(NotFound) as empty:
        await resume(network, ann, training.run)
    assert "TESRA_CHECKPOINT_DIR" in str(empty.value.way_out)
    with pytest.raises(NotFound) as unknown:
        await resume(network, ann, training.run, checkpoint=7)
    assert "tesra checkpoints" in str(unknown.value.way_out)
    with pytest.raises(NotFound):
        await resume(network, await network.user("bob"), training.run)


async def test_a_run_with_secrets_is_resumed_only_with_them(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    run = await network.submit(ann, secrets={"API_KEY": "hush"})
    training = Training(network, ann, run.id)
    first = await training.place()
    await training.checkpoint(first, 1_000)
    await training.end(first, "stopped")
    with pytest.raises(Invalid) as refused:
        await resume(network, ann, run.id)
    assert "--secret API_KEY" in str(refused.value.way_out)
    again = await resume(network, ann, run.id, secrets={"API_KEY": "hush"})
    assert again.secrets == ["API_KEY"]
